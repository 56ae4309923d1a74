/* An open-loop load generator: requests are due at fixed moments, whatever the proxy does, and a
 * latency counts from the moment a request was due, not from when it could be sent. So a proxy
 * that stalls pays for every request that it held up (no coordinated omission).
 *
 *   openloop PORT CONNECTIONS RATE SECONDS  ->  {"sent":..,"done":..,"p50":..,"p99":..} in microseconds
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const char request[] = "GET / HTTP/1.1\r\nHost: bench.local\r\nUser-Agent: openloop\r\nAccept: */*\r\n\r\n";

struct connection { int fd, filled; long expected; double due; char head[4096]; };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* 1 when a whole answer is in, 0 when more is to come, -1 on an error. */
static int take(struct connection *c) {
    char buffer[65536];
    int got = recv(c->fd, buffer, sizeof buffer, 0);
    if (got <= 0) return -1;
    if (!c->expected) {
        int kept = got < (int)sizeof c->head - 1 - c->filled ? got : (int)sizeof c->head - 1 - c->filled;
        memcpy(c->head + c->filled, buffer, kept), c->head[c->filled + kept] = 0;
        char *end = memmem(c->head, c->filled + kept, "\r\n\r\n", 4);
        if (end) {
            char *length = strcasestr(c->head, "\ncontent-length:");
            if (strncmp(c->head, "HTTP/1.1 200", 12) || !length) return -1;
            c->expected = end + 4 - c->head + atol(length + 16);
        }
    }
    c->filled += got;
    return c->expected && c->filled >= c->expected;
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    int connections = atoi(argv[2]), poll = epoll_create1(0), one = 1;
    double rate = atof(argv[3]), seconds = atof(argv[4]);
    long total = rate * seconds, sent = 0, done = 0, errors = 0;
    double *latency = calloc(total + 1, sizeof *latency);
    struct connection *all = calloc(connections, sizeof *all), **idle = calloc(connections, sizeof *idle);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int idle_count = 0;
    for (int i = 0; i < connections; i++) {
        all[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(all[i].fd, (void *)&address, sizeof address)) { perror("connect"); return 1; }
        setsockopt(all[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        epoll_ctl(poll, EPOLL_CTL_ADD, all[i].fd, &(struct epoll_event){.events = EPOLLIN, .data.ptr = &all[i]});
        idle[idle_count++] = &all[i];
    }
    double start = now() + 1000, gap = 1e6 / rate, give_up = start + seconds * 1e6 + 2e6;
    struct epoll_event events[256];
    while (done + errors < total && now() < give_up) {
        while (sent < total && idle_count && now() >= start + sent * gap) {
            struct connection *c = idle[--idle_count];
            c->due = start + sent++ * gap, c->filled = 0, c->expected = 0;
            if (send(c->fd, request, sizeof request - 1, MSG_NOSIGNAL) < 0) errors++;
        }
        double wait = 1000;
        if (sent < total && idle_count) wait = start + sent * gap - now();
        if (wait < 0) wait = 0;
        struct timespec timeout = {0, (long)(wait * 1000)};
        int ready = epoll_pwait2(poll, events, 256, &timeout, 0);
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            int state = take(c);
            if (state == 0) continue;
            if (state < 0) { errors++, close(c->fd); continue; }
            latency[done++] = now() - c->due, idle[idle_count++] = c;
        }
    }
    /* Requests never answered count as late as the end of the run: leaving them out would flatter. */
    long counted = done;
    for (long i = done + errors; i < total; i++) latency[counted++] = give_up - (start + i * gap);
    qsort(latency, counted, sizeof *latency, compare);
#define AT(q) (counted ? latency[(long)((counted - 1) * q)] : 0)
    printf("{\"due\":%ld,\"done\":%ld,\"errors\":%ld,\"p50\":%.1f,\"p99\":%.1f,\"p999\":%.1f}\n",
           total, done, errors, AT(0.5), AT(0.99), AT(0.999));
}
