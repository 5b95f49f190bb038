/* A model server that costs almost nothing: OpenAI-shaped answers, whole or streamed, from one thread.
 *
 *   backend [PORT]           listens on 127.0.0.1 (0 or none: a free port) and prints the port
 *   GET /set?answer_bytes=N&events=N&gap_us=N     changes what it answers from then on
 *   GET /health, /v1/models  what gateways ask before they send anything
 *   POST anything            a completion; with "stream":true in the body, server-sent events
 *
 * A whole answer's text is between two '@'. A streamed event's text is "@NANOSECONDS.INDEX@": the monotonic clock when it
 * was written, and its place in the stream. The first event goes out at once, the others `gap_us` after one another.
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
#include <sys/socket.h>
#include <unistd.h>

#include "machine.h"

enum { FIRST_BUFFER = 4096, MOST_REQUEST = 1 << 20, EVENTS_AT_ONCE = 512 };

typedef struct connection {
    int fd;
    char *in;
    size_t in_size, in_room;
    size_t left;              /* of the whole answer, what the socket has not taken yet */
    int blocked, streaming, wants_usage;
    uint64_t index, due_ns;   /* the next event and when it is due */
    struct connection *next, *previous; /* among those that stream, in the order in which they are due */
} connection;

static connection *first_due, *last_due;
static int poller;
static uint64_t events = 100, gap_ns = 5000000;
static char *answer;
static size_t answer_size;

static const char STREAM_HEAD[] =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
static const char EVENT[] =
    "data: {\"id\":\"chatcmpl-0\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"mixtral\","
    "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"@0000000000000000000.000000@\"},\"finish_reason\":null}]}\n\n";
static const char LAST[] =
    "data: {\"id\":\"chatcmpl-0\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"mixtral\","
    "\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"length\"}]}\n\n";
static const char USAGE[] =
    "data: {\"id\":\"chatcmpl-0\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"mixtral\","
    "\"choices\":[],\"usage\":{\"prompt_tokens\":64,\"completion_tokens\":%lu,\"total_tokens\":%lu}}\n\n";
static const char DONE[] = "data: [DONE]\n\n";
static char event_chunk[sizeof EVENT + 16];
static size_t event_size, time_at, index_at;

static void digits(char *at, int count, uint64_t value) {
    for (at += count; count-- > 0; value /= 10) *--at = (char)('0' + value % 10);
}

static void prepare_event(void) {
    event_size = (size_t)sprintf(event_chunk, "%zx\r\n%s\r\n", sizeof EVENT - 1, EVENT);
    time_at = (size_t)(strchr(event_chunk, '@') - event_chunk) + 1;
    index_at = time_at + 20;
}

static void prepare_answer(size_t text_bytes) {
    static const char before[] = "{\"id\":\"chatcmpl-0\",\"object\":\"chat.completion\",\"created\":1700000000,"
                                 "\"model\":\"mixtral\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
                                 "\"content\":\"@";
    static const char after[] = "@\"},\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":64,"
                                "\"completion_tokens\":16,\"total_tokens\":80}}";
    size_t body = sizeof before - 1 + text_bytes + sizeof after - 1;
    free(answer);
    answer = malloc(body + 128);
    answer_size = (size_t)sprintf(
        answer, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s", body, before);
    for (size_t i = 0; i < text_bytes; i++) answer[answer_size++] = (char)('a' + i % 26);
    memcpy(answer + answer_size, after, sizeof after - 1);
    answer_size += sizeof after - 1;
}

static void unlink_due(connection *c) {
    if (!c->streaming) return;
    *(c->previous ? &c->previous->next : &first_due) = c->next;
    *(c->next ? &c->next->previous : &last_due) = c->previous;
    c->streaming = 0;
}

/* All gaps are equal, so whoever was served last is due last: a queue is a timer. */
static void append_due(connection *c, uint64_t due_ns) {
    c->streaming = 1;
    c->due_ns = due_ns;
    c->next = NULL;
    c->previous = last_due;
    *(last_due ? &last_due->next : &first_due) = c;
    last_due = c;
}

static void drop(connection *c) {
    unlink_due(c);
    close(c->fd);
    free(c->in);
    free(c);
}

/* Return 1 when everything was taken. A client that lets a stream fill its socket is dropped: that is its error to see. */
static int send_all(connection *c, const char *bytes, size_t size) {
    if (send(c->fd, bytes, size, MSG_NOSIGNAL) == (ssize_t)size) return 1;
    drop(c);
    return 0;
}

static int send_small(connection *c, const char *body, const char *kind) {
    char reply[512];
    int size = snprintf(reply, sizeof reply, "HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %zu\r\n\r\n%s",
                        kind, strlen(body), body);
    return send_all(c, reply, (size_t)size);
}

static int send_rest(connection *c) {
    ssize_t sent = send(c->fd, answer + answer_size - c->left, c->left, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        drop(c);
        return 0;
    }
    if (sent > 0) c->left -= (size_t)sent;
    if (c->blocked != (c->left > 0)) {
        c->blocked = c->left > 0;
        struct epoll_event wanted = {.events = EPOLLIN | (c->blocked ? EPOLLOUT : 0), .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &wanted);
    }
    return 1;
}

static int send_end(connection *c) {
    char out[1024], usage[512];
    size_t usage_size = (size_t)sprintf(usage, USAGE, (unsigned long)events, (unsigned long)events + 64);
    int size = sprintf(out, "%zx\r\n%s\r\n", sizeof LAST - 1, LAST);
    if (c->wants_usage) size += sprintf(out + size, "%zx\r\n%s\r\n", usage_size, usage);
    size += sprintf(out + size, "%zx\r\n%s\r\n0\r\n\r\n", sizeof DONE - 1, DONE);
    return send_all(c, out, (size_t)size);
}

static int send_event(connection *c, uint64_t now) {
    digits(event_chunk + time_at, 19, now);
    digits(event_chunk + index_at, 6, c->index++);
    return send_all(c, event_chunk, event_size);
}

static int begin_stream(connection *c) {
    uint64_t now = now_ns();
    c->index = 0;
    if (!send_all(c, STREAM_HEAD, sizeof STREAM_HEAD - 1) || !send_event(c, now)) return 0;
    if (c->index >= events) return send_end(c);
    append_due(c, now + gap_ns);
    return 1;
}

static void serve_due(uint64_t now) {
    for (connection *c; (c = first_due) && c->due_ns <= now;) {
        uint64_t next_ns = c->due_ns + gap_ns;
        unlink_due(c);
        if (!send_event(c, now_ns())) continue;
        if (c->index < events) append_due(c, next_ns);
        else send_end(c);
    }
}

static int set(connection *c, const char *query) {
    for (const char *at = query; at; at = strchr(at + 1, '&')) {
        unsigned long value;
        if (sscanf(at + 1, "answer_bytes=%lu", &value) == 1) prepare_answer(value);
        if (sscanf(at + 1, "events=%lu", &value) == 1) events = value;
        if (sscanf(at + 1, "gap_us=%lu", &value) == 1) gap_ns = value * 1000;
    }
    return send_small(c, "{}", "application/json");
}

static int asks(const char *body, size_t size, const char *tight, const char *spaced) {
    return memmem(body, size, tight, strlen(tight)) || memmem(body, size, spaced, strlen(spaced));
}

/* Answer the request at the start of the buffer. Return its size, 0 while it is not whole, -1 when c is gone. */
static long answer_one(connection *c) {
    char *end = memmem(c->in, c->in_size, "\r\n\r\n", 4);
    if (!end) return 0;
    size_t head = (size_t)(end - c->in) + 4, length = 0;
    for (char *line = c->in; line < end; line = (char *)memchr(line, '\n', head) + 1)
        if (!strncasecmp(line, "content-length:", 15)) length = strtoul(line + 15, NULL, 10);
    if (c->in_size < head + length) return 0;
    int alive;
    if (!strncmp(c->in, "GET /set?", 9)) {
        *(char *)memchr(c->in + 9, ' ', head) = 0;
        alive = set(c, c->in + 8);
    } else if (!strncmp(c->in, "GET /v1/models", 14)) {
        alive = send_small(c, "{\"object\":\"list\",\"data\":[{\"id\":\"mixtral\",\"object\":\"model\",\"created\":0,"
                              "\"owned_by\":\"benchmark\"}]}", "application/json");
    } else if (strncmp(c->in, "POST ", 5)) {
        alive = send_small(c, "{}", "application/json");
    } else if (asks(c->in + head, length, "\"stream\":true", "\"stream\": true")) {
        c->wants_usage = asks(c->in + head, length, "\"include_usage\":true", "\"include_usage\": true");
        alive = begin_stream(c);
    } else {
        c->left = answer_size;
        alive = send_rest(c);
    }
    return alive ? (long)(head + length) : -1;
}

static void read_more(connection *c) {
    if (c->in_size == c->in_room) {
        if (c->in_room >= MOST_REQUEST) return drop(c);
        c->in = realloc(c->in, c->in_room *= 4);
    }
    ssize_t got = recv(c->fd, c->in + c->in_size, c->in_room - c->in_size, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN)) return drop(c);
    if (got < 0) return;
    c->in_size += (size_t)got;
    /* The next request waits until the last answer is out. */
    while (c->in_size && !c->streaming && !c->left) {
        long used = answer_one(c);
        if (used < 0) return;
        if (used == 0) break;
        memmove(c->in, c->in + used, c->in_size -= (size_t)used);
    }
}

static void take_all(int listener) {
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        int yes = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        connection *c = calloc(1, sizeof *c);
        *c = (connection){.fd = fd, .in = malloc(FIRST_BUFFER), .in_room = FIRST_BUFFER};
        struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &wanted);
    }
}

/* Wait until something arrives or an event is due. */
static int wait_for(struct epoll_event *ready) {
    uint64_t now = now_ns();
    struct timespec left = timespec_of(first_due && first_due->due_ns > now ? first_due->due_ns - now : 0);
    return epoll_pwait2(poller, ready, EVENTS_AT_ONCE, first_due ? &left : NULL, NULL);
}

int main(int argc, char **argv) {
    settle_in();
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), yes = 1;
    struct sockaddr_in place = {.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)(argc > 1 ? atoi(argv[1]) : 0)),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t place_size = sizeof place;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&place, sizeof place) || listen(listener, 8192)) {
        perror("backend: cannot listen");
        return 1;
    }
    getsockname(listener, (struct sockaddr *)&place, &place_size);
    printf("%d\n", ntohs(place.sin_port));
    fflush(stdout);
    prepare_event();
    prepare_answer(1024);
    poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = NULL}, ready[EVENTS_AT_ONCE];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &wanted);
    for (;;) {
        int count = wait_for(ready);
        for (int i = 0; i < count; i++) {
            connection *c = ready[i].data.ptr;
            if (!c) take_all(listener);
            else if (c->blocked && ready[i].events & EPOLLOUT) send_rest(c);
            else read_more(c);
        }
        serve_due(now_ns());
    }
}
