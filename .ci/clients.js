// node's own clients: http with a kept connection, https, HTTP/2 with prior knowledge and by ALPN.
const assert = require('assert'), fs = require('fs'), http = require('http'), https = require('https'), http2 = require('http2');
const [port, tlsPort, caPath] = process.argv.slice(2);
const ca = fs.readFileSync(caPath);
const body = require('crypto').randomBytes(700_001);

function ask(module, options, sent) {
  return new Promise((resolve, reject) => {
    const request = module.request({ host: 'localhost', ca, ...options }, (response) => {
      const pieces = [];
      response.on('data', (piece) => pieces.push(piece));
      response.on('end', () => resolve([response.statusCode, Buffer.concat(pieces)]));
    });
    request.on('error', reject);
    for (const piece of sent) request.write(piece);
    request.end();
  });
}

function ask2(session, headers, sent) {
  return new Promise((resolve, reject) => {
    const stream = session.request(headers, { endStream: !sent.length });
    let status;
    const pieces = [];
    stream.on('response', (response) => { status = response[':status']; });
    stream.on('data', (piece) => pieces.push(piece));
    stream.on('end', () => resolve([status, Buffer.concat(pieces)]));
    stream.on('error', reject);
    if (sent.length) { for (const piece of sent) stream.write(piece); stream.end(); }
  });
}

(async () => {
  for (const [module, number] of [[http, port], [https, tlsPort]]) {
    const agent = new module.Agent({ keepAlive: true, maxSockets: 1 });
    for (let count = 0; count < 5; count++) {
      assert.deepStrictEqual(await ask(module, { agent, port: number, path: '/node' }, []), [200, Buffer.alloc(0)]);
      const [status, echoed] = await ask(module, { agent, port: number, path: '/node', method: 'POST' }, [body.subarray(0, 9), body.subarray(9)]);
      assert(status === 200 && echoed.equals(body));
    }
    agent.destroy();
  }
  for (const url of [`http://localhost:${port}`, `https://localhost:${tlsPort}`]) {
    const session = http2.connect(url, { ca });
    session.on('error', (error) => { throw error; });
    const answers = await Promise.all(Array.from({ length: 40 }, (_, number) => number % 2
      ? ask2(session, { ':path': '/node2' }, [])
      : ask2(session, { ':path': '/node2', ':method': 'POST' }, [body.subarray(0, 9), body.subarray(9)])));
    for (const [number, [status, echoed]] of answers.entries()) {
      assert(status === 200 && echoed.equals(number % 2 ? Buffer.alloc(0) : body), `stream ${number}: ${status}, ${echoed.length} bytes`);
    }
    session.close();
  }
})().catch((error) => { console.error(error); process.exit(1); });
