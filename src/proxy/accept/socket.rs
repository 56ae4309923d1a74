//! Sockets that listen, of TCP and of the Unix kind, and what they accept.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use socket2::{Domain, Protocol, SockAddr, Type};

use crate::discovery::source::EndpointAddress;
use crate::limits;
use crate::upstream::stream::Stream;

/// Who a client of a Unix socket is taken to be: this host.
const HERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A socket that listens.
pub enum Socket {
    /// At an address.
    Tcp(TcpListener),
    /// At a path.
    Unix(UnixListener, Arc<File>),
}

/// The file of a Unix socket, known again by its inode: another process may have taken its place.
pub struct File {
    path: Arc<Path>,
    inode: Option<(u64, u64)>,
}

/// The same on a worker's runtime.
pub(super) enum Acceptor {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

/// A connection between two runtimes.
pub enum Handed {
    /// Over TCP.
    Tcp(std::net::TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl Socket {
    /// One that listens at `address`.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn bind(address: &EndpointAddress) -> io::Result<Self> {
        match address {
            EndpointAddress::Tcp(address) => bind_tcp(*address).map(Self::Tcp),
            EndpointAddress::Unix(path) => {
                let listener = bind_unix(path)?;
                let file = File { path: path.clone(), inode: inode(path) };
                Ok(Self::Unix(listener, Arc::new(file)))
            }
        }
    }

    /// Where it listens: with the port that the system chose, if none was asked for.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> io::Result<EndpointAddress> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(EndpointAddress::Tcp),
            Self::Unix(_, file) => Ok(EndpointAddress::Unix(file.path.clone())),
        }
    }

    /// The same socket once more.
    ///
    /// # Errors
    /// There are too many files open.
    pub fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(listener) => listener.try_clone().map(Self::Tcp),
            Self::Unix(listener, file) => Ok(Self::Unix(listener.try_clone()?, file.clone())),
        }
    }

    /// Nobody listens there any more: a Unix socket's file goes, unless it is somebody else's by now.
    pub fn leave(&self) {
        if let Self::Unix(_, file) = self
            && file.inode.is_some()
            && file.inode == inode(&file.path)
        {
            // It is gone, or not ours to remove: either way nothing is left to do.
            let _removed = fs::remove_file(&file.path);
        }
    }

    pub(super) fn into_acceptor(self) -> io::Result<Acceptor> {
        Ok(match self {
            Self::Tcp(listener) => Acceptor::Tcp(tokio::net::TcpListener::from_std(listener)?),
            Self::Unix(listener, _) => Acceptor::Unix(tokio::net::UnixListener::from_std(listener)?),
        })
    }
}

impl Acceptor {
    pub(super) async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, peer)| (Stream::Tcp(stream), peer)),
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| (Stream::Unix(stream), HERE)),
        }
    }
}

impl Handed {
    /// Takes `stream`, which was just accepted, off its runtime.
    pub(super) fn new(stream: Stream) -> io::Result<Self> {
        match stream {
            Stream::Tcp(stream) => stream.into_std().map(Self::Tcp),
            Stream::Unix(stream) => stream.into_std().map(Self::Unix),
            Stream::Tls(_) | Stream::Http2(_) | Stream::Replayed(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Puts it onto the calling thread's.
    pub(in crate::proxy) fn into_stream(self) -> io::Result<Stream> {
        match self {
            Self::Tcp(stream) => tokio::net::TcpStream::from_std(stream).map(Stream::Tcp),
            Self::Unix(stream) => tokio::net::UnixStream::from_std(stream).map(Stream::Unix),
        }
    }
}

/// The end of a client's connection that is ours.
pub(in crate::proxy) fn local_address(stream: &Stream) -> SocketAddr {
    match stream {
        Stream::Tcp(stream) => stream.local_addr().unwrap_or(HERE),
        _ => HERE,
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted process must not wait for the connections of the one before it.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() && !address.ip().is_unspecified() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(limits::LISTEN_BACKLOG)?;
    Ok(socket.into())
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let address = SockAddr::unix(path)?;
    match socket.bind(&address) {
        // What a process leaves behind that was killed: a file at which nobody listens.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_deserted(path) => {
            fs::remove_file(path)?;
            socket.bind(&address)?;
        }
        bound => bound?,
    }
    socket.listen(limits::LISTEN_BACKLOG)?;
    Ok(socket.into())
}

fn is_deserted(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    is_socket && UnixStream::connect(path).is_err_and(refused)
}

fn inode(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_that_nobody_listens_at_is_taken_over_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let address = EndpointAddress::Unix(folder.path().join("a.sock").into());
        let EndpointAddress::Unix(path) = &address else { unreachable!() };
        let first = Socket::bind(&address).unwrap();
        assert_eq!(Socket::bind(&address).err().unwrap().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(path.exists());
        let second = Socket::bind(&address).unwrap();
        let third = second.try_clone().unwrap();
        assert_eq!(third.address().unwrap(), address);
        // Somebody else's by now.
        fs::rename(path, folder.path().join("b.sock")).unwrap();
        fs::write(path, "").unwrap();
        second.leave();
        assert!(path.exists());
        assert!(Socket::bind(&address).is_err(), "a file that is no socket is left alone");
        fs::rename(folder.path().join("b.sock"), path).unwrap();
        third.leave();
        assert!(!path.exists());
    }
}
