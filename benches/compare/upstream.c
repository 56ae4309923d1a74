/* The backend of every measurement: one thread, epoll, HTTP/1.1 keep-alive.
 *
 * It drains a body by its Content-Length and answers 1 KiB, at about 5 microseconds of CPU a
 * request, so that a proxy is never waiting for it. It must stay free of features.
 *
 *   upstream PORT...          answers; GET /__count tells the requests so far, port by port
 *   upstream --stall PORT...  accepts and neither reads nor answers: a mirror that hangs
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD_LIMIT 16384
#define PORT_LIMIT 128
#define READ_SIZE 262144

struct connection {
    int fd, port, filled;
    long long body_left;
    char head[HEAD_LIMIT + 1];
};

static long long counts[PORT_LIMIT];
static int port_count, stall;
static char answer[2048], input[READ_SIZE];
static int answer_size;

static int send_count(int fd) {
    char body[512], text[1024];
    int used = 0;
    for (int i = 0; i < port_count; i++)
        used += snprintf(body + used, sizeof body - used, "%lld\n", counts[i]);
    int size = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", used, body);
    return send(fd, text, size, MSG_NOSIGNAL) == size ? 0 : -1;
}

/* Answers once the head is whole and its body is drained. -1 closes the connection. */
static int finish(struct connection *c) {
    if (!strncmp(c->head, "GET /__count ", 13)) return send_count(c->fd);
    counts[c->port]++;
    return send(c->fd, answer, answer_size, MSG_NOSIGNAL) == answer_size ? 0 : -1;
}

static int feed(struct connection *c, const char *data, int size) {
    while (size > 0) {
        if (c->body_left > 0) {
            int taken = size < c->body_left ? size : (int)c->body_left;
            c->body_left -= taken, data += taken, size -= taken;
            if (c->body_left == 0) {
                if (finish(c) < 0) return -1;
                c->filled = 0;
            }
            continue;
        }
        int before = c->filled, room = HEAD_LIMIT - before, taken = size < room ? size : room;
        if (taken == 0) return -1;
        memcpy(c->head + before, data, taken);
        c->filled += taken, c->head[c->filled] = 0;
        char *end = memmem(c->head, c->filled, "\r\n\r\n", 4);
        if (!end) { data += taken, size -= taken; continue; }
        int head_size = (int)(end - c->head) + 4, used = head_size - before;
        data += used, size -= used;
        end[2] = 0;
        if (strcasestr(c->head, "\ntransfer-encoding:")) return -1; /* no scenario sends it */
        char *length = strcasestr(c->head, "\ncontent-length:");
        c->body_left = length ? atoll(length + 16) : 0;
        if (c->body_left == 0) {
            if (finish(c) < 0) return -1;
            c->filled = 0;
        }
    }
    return 0;
}

int main(int argc, char **argv) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files), files.rlim_cur = files.rlim_max, setrlimit(RLIMIT_NOFILE, &files);
    answer_size = sprintf(answer, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n");
    memset(answer + answer_size, 'x', 1024), answer_size += 1024;
    int poll = epoll_create1(0), one = 1;
    for (int i = 1; i < argc && port_count < PORT_LIMIT; i++) {
        if (!strcmp(argv[i], "--stall")) { stall = 1; continue; }
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[i]))};
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (bind(fd, (void *)&address, sizeof address) || listen(fd, 4096)) { perror(argv[i]); return 1; }
        struct connection *c = calloc(1, sizeof *c);
        c->fd = fd, c->port = -1 - port_count++;
        epoll_ctl(poll, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.ptr = c});
    }
    struct epoll_event events[256];
    for (;;) {
        int ready = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (c->port < 0) {
                int fd = accept4(c->fd, 0, 0, SOCK_NONBLOCK);
                if (fd < 0 || stall) continue;
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                struct connection *new = malloc(sizeof *new);
                new->fd = fd, new->port = -1 - c->port, new->filled = 0, new->body_left = 0;
                epoll_ctl(poll, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.ptr = new});
                continue;
            }
            int got = recv(c->fd, input, READ_SIZE, 0);
            if (got < 0 && errno == EAGAIN) continue;
            if (got <= 0 || feed(c, input, got) < 0) close(c->fd), free(c);
        }
    }
}
