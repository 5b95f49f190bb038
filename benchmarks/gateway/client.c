/* A client that costs almost nothing: POSTs one body again and again, checks each answer, prints what it saw as JSON.
 *
 *   client --port P --body FILE [--keys FILE] --connections N [--rate R] [--warm S] --seconds S [--requests N] [--drain S]
 *          [--answer-bytes N | --events N]
 *
 * With --rate, requests are due R a second whatever happens to the others, and a latency counts from when its request was
 * due. Without, each connection sends as soon as it has its answer; they begin spread over --warm seconds. Figures are of
 * the --seconds after that, totals of the whole run. Answers still out then have --drain seconds to end. --events says that
 * answers are streams of so many events; backend.c tells what is in them. Keys, a line each, take turns; all are as long.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "histogram.h"
#include "machine.h"

enum { READ_ROOM = 1 << 18, READY = 512, MARK = 28 };
enum part { HEAD, WHOLE, CHUNK_SIZE, CHUNK, CHUNK_END };
enum error { WRONG_STATUS, WRONG_BODY, WRONG_FRAMING, CLOSED, UNFINISHED, ERRORS };
static const char *const error_names[ERRORS] = {"status", "body", "framing", "closed", "unfinished"};

typedef struct connection {
    int fd, busy, closes, ending;
    enum part part;
    uint64_t intended_ns, left, index;  /* left: of the body or chunk */
    char *held;                         /* the head; then the body, of a stream what is not read yet */
    size_t held_size, held_room;
    struct connection *next_idle;
} connection;

static histogram latency, first_event, event_delay;
static uint64_t errors[ERRORS], requests, events, sent, measured_requests, measured_events, begin_ns, end_ns;
static uint64_t stop_ns, due_ns, gap_ns, open_now, most_requests = UINT64_MAX, wanted_events;
static size_t wanted_text, request_size, key_at, key_size, keys_count;
static char *request, *keys, *wanted;
static connection *idle;
static int poller, port, open_loop, status;

static const char DONE[] = "[DONE]";

static void die(const char *what) { perror(what); exit(1); }

/* Note a reading that falls into the time that is measured. */
static void note(histogram *h, uint64_t ns, uint64_t now) {
    if (now >= begin_ns && now < end_ns) record(h, ns);
}

static char *read_file(const char *name, size_t *size) {
    FILE *file = fopen(name, "rb");
    if (!file || fseek(file, 0, SEEK_END)) die(name);
    *size = (size_t)ftell(file);
    rewind(file);
    char *bytes = malloc(*size + 1);
    if (fread(bytes, 1, *size, file) != *size) die(name);
    fclose(file);
    bytes[*size] = 0;
    return bytes;
}

static void prepare(const char *body_file, const char *keys_file) {
    size_t body_size, keys_bytes;
    char *body = read_file(body_file, &body_size);
    if (keys_file) {
        keys = read_file(keys_file, &keys_bytes);
        key_size = strcspn(keys, "\n");
        keys_count = keys_bytes / (key_size + 1);
    }
    request = malloc(body_size + key_size + 256);
    int head = sprintf(request, "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
                       "content-length: %zu\r\nauthorization: Bearer %.*s\r\n\r\n",
                       body_size, (int)key_size, keys ? keys : "");
    key_at = (size_t)head - 4 - key_size;
    memcpy(request + head, body, body_size);
    request_size = (size_t)head + body_size;
    wanted = malloc(wanted_text + 2);
    for (size_t i = 0; i < wanted_text; i++) wanted[i + 1] = (char)('a' + i % 26);
    wanted[0] = wanted[wanted_text + 1] = '@';
}

static void open_socket(connection *c) {
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int yes = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&place, sizeof place)) die("client: cannot connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    struct epoll_event ask = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &ask);
}

static void begin_request(connection *c, uint64_t intended_ns) {
    if (c->fd < 0) open_socket(c);
    if (keys_count) memcpy(request + key_at, keys + sent % keys_count * (key_size + 1), key_size);
    c->busy = 1;
    c->part = HEAD;
    c->intended_ns = intended_ns;
    c->index = c->held_size = 0;
    c->closes = c->ending = 0;
    c->left = 0;
    sent++;
    open_now++;
    for (size_t out = 0; out < request_size;) { /* the socket blocks here alone: reads are by MSG_DONTWAIT */
        ssize_t took = send(c->fd, request + out, request_size - out, MSG_NOSIGNAL);
        if (took < 0) return; /* the read that follows sees why */
        out += (size_t)took;
    }
}

static void finish(connection *c, uint64_t now, int error) {
    if (error >= 0 && !errors[error]++)
        fprintf(stderr, "client: first error, %s, status %d: %.*s\n", error_names[error], status,
                (int)(c->held_size < 1000 ? c->held_size : 1000), c->held);
    if (error < 0) {
        requests++;
        measured_requests += now >= begin_ns && now < end_ns;
        note(&latency, now - c->intended_ns, now);
    }
    if (error >= 0 || c->closes) {
        close(c->fd);
        c->fd = -1;
    }
    c->busy = 0;
    open_now--;
    if (!open_loop && now < stop_ns && sent < most_requests) return begin_request(c, now);
    c->next_idle = idle;
    idle = c;
}

static void hold(connection *c, const char *bytes, size_t size) {
    if (c->held_size + size > c->held_room)
        c->held = realloc(c->held, c->held_room = (c->held_size + size) * 2);
    memcpy(c->held + c->held_size, bytes, size);
    c->held_size += size;
}

/* Read the marks in what is held of a stream; keep what may be the start of one. Return 0 when one is out of order. */
static int read_events(connection *c, uint64_t now) {
    char *at = c->held, *end = c->held + c->held_size, *mark;
    while ((mark = memchr(at, '@', (size_t)(end - at))) && end - mark >= MARK) {
        uint64_t stamp_ns = strtoull(mark + 1, NULL, 10), index = strtoull(mark + 21, NULL, 10);
        if (mark[MARK - 1] != '@' || index != c->index) return 0;
        if (!c->index++) note(&first_event, now - c->intended_ns, now);
        note(&event_delay, now - stamp_ns, now);
        events++;
        measured_events += now >= begin_ns && now < end_ns;
        at = mark + MARK;
    }
    if (!mark && c->index == wanted_events) mark = memmem(at, (size_t)(end - at), DONE, sizeof DONE - 1);
    size_t rest = (size_t)(end - at), kept = mark ? (size_t)(end - mark) : rest < sizeof DONE ? rest : sizeof DONE;
    memmove(c->held, end - kept, c->held_size = kept);
    return 1;
}

static int is_whole(const connection *c) {
    if (wanted_events) return c->index == wanted_events && c->held && memmem(c->held, c->held_size, DONE, sizeof DONE - 1);
    const char *text = c->held_size ? memchr(c->held, '@', c->held_size) : NULL;
    return text && (size_t)(c->held + c->held_size - text) >= wanted_text + 2 && !memcmp(text, wanted, wanted_text + 2);
}

static void end_answer(connection *c, uint64_t now) { finish(c, now, is_whole(c) ? -1 : WRONG_BODY); }

/* Take the head out of what is held; return an error or -1. What follows it stays held. */
static int read_head(connection *c, char *end) {
    status = atoi(c->held + 9);
    if (status != 200) return WRONG_STATUS;
    *end = 0;
    const char *length = strcasestr(c->held, "\ncontent-length:");
    if (length) c->left = strtoull(length + 16, NULL, 10);
    else if (!strcasestr(c->held, "\ntransfer-encoding: chunked")) return WRONG_FRAMING;
    c->part = length ? WHOLE : CHUNK_SIZE;
    c->closes = strcasestr(c->held, "\nconnection: close") != NULL;
    return -1;
}

static void feed(connection *c, const char *at, size_t size, uint64_t now);

static void feed_head(connection *c, const char *bytes, size_t size, uint64_t now) {
    hold(c, bytes, size);
    char *end = memmem(c->held, c->held_size, "\r\n\r\n", 4);
    if (!end) return;
    int error = read_head(c, end);
    if (error >= 0) return finish(c, now, error);
    size_t rest = c->held_size - (size_t)(end + 4 - c->held);
    c->held_size = 0;
    if (c->part != WHOLE || c->left) return feed(c, bytes + size - rest, rest, now);
    rest ? finish(c, now, WRONG_FRAMING) : end_answer(c, now);
}

static void feed(connection *c, const char *at, size_t size, uint64_t now) {
    if (c->part == HEAD) return feed_head(c, at, size, now);
    for (const char *end = at + size; at < end;) {
        if (c->part == CHUNK_SIZE || c->part == CHUNK_END) { /* a line: hex digits, or nothing */
            if (*at == '\n' && c->part == CHUNK_SIZE) {
                c->part = c->left ? CHUNK : CHUNK_END;
                c->ending = !c->left;
            } else if (*at == '\n' && c->ending) {
                return at + 1 == end ? end_answer(c, now) : finish(c, now, WRONG_FRAMING);
            } else if (*at == '\n') {
                c->part = CHUNK_SIZE;
            } else if (*at != '\r' && c->part == CHUNK_SIZE) {
                c->left = c->left * 16 + (uint64_t)(*at <= '9' ? *at - '0' : (*at | 32) - 'a' + 10);
            }
            at++;
            continue;
        }
        size_t took = c->left < (size_t)(end - at) ? (size_t)c->left : (size_t)(end - at);
        hold(c, at, took);
        at += took;
        c->left -= took;
        if (wanted_events && !read_events(c, now)) return finish(c, now, WRONG_BODY);
        if (c->left) continue;
        if (c->part == WHOLE) return at == end ? end_answer(c, now) : finish(c, now, WRONG_FRAMING);
        c->part = CHUNK_END;
    }
}

static void read_more(connection *c) {
    static char room[READ_ROOM];
    ssize_t got = recv(c->fd, room, sizeof room, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got > 0 && c->busy) return feed(c, room, (size_t)got, now_ns());
    if (c->busy) return finish(c, now_ns(), CLOSED);
    close(c->fd); /* an idle connection may be closed: the next request opens another */
    c->fd = -1;
}

static void send_due(uint64_t now) {
    for (; idle && due_ns <= now && due_ns < stop_ns && sent < most_requests; due_ns += gap_ns) {
        connection *c = idle;
        idle = c->next_idle;
        begin_request(c, due_ns);
    }
    if (!open_loop && due_ns < stop_ns && !idle) due_ns = UINT64_MAX; /* all have begun: each goes on by itself */
}

static void run(uint64_t give_up_ns) {
    struct epoll_event ready[READY];
    for (uint64_t now; (now = now_ns()) < give_up_ns && (open_now || (now < stop_ns && sent < most_requests));) {
        send_due(now);
        uint64_t until = idle && due_ns > now && due_ns < stop_ns ? due_ns : now < stop_ns ? stop_ns : give_up_ns;
        struct timespec wait = timespec_of(until - now);
        int count = epoll_pwait2(poller, ready, READY, &wait, NULL);
        for (int i = 0; i < count; i++) read_more(ready[i].data.ptr);
    }
    errors[UNFINISHED] = open_now;
}

int main(int argc, char **argv) {
    enum { PORT, CONNECTIONS, RATE, WARM, SECONDS, REQUESTS, DRAIN, ANSWER, EVENTS, BODY, KEYS, OPTIONS };
    static const char *const names[OPTIONS] = {"--port", "--connections", "--rate", "--warm", "--seconds", "--requests", "--drain",
                                               "--answer-bytes", "--events", "--body", "--keys"};
    const char *given[OPTIONS] = {"0", "1", "0", "0", "1", "0", "5", "0", "0", NULL, NULL};
    for (int i = 1, option; i < argc; i += 2) {
        for (option = 0; option < OPTIONS && strcmp(argv[i], names[option]); option++) continue;
        if (option == OPTIONS || i + 1 == argc) return fprintf(stderr, "client: what is %s?\n", argv[i]), 2;
        given[option] = argv[i + 1];
    }
    port = atoi(given[PORT]);
    double rate = atof(given[RATE]), warm_s = atof(given[WARM]), seconds = atof(given[SECONDS]);
    long connections = atol(given[CONNECTIONS]);
    if (atol(given[REQUESTS])) most_requests = strtoull(given[REQUESTS], NULL, 10);
    wanted_text = strtoull(given[ANSWER], NULL, 10);
    wanted_events = strtoull(given[EVENTS], NULL, 10);
    if (!port || !given[BODY] || connections < 1) return fputs("client: --port and --body are needed\n", stderr), 2;
    settle_in();
    prepare(given[BODY], given[KEYS]);
    poller = epoll_create1(EPOLL_CLOEXEC);
    connection *all = calloc((size_t)connections, sizeof *all);
    for (long i = 0; i < connections; i++) {
        all[i].fd = -1;
        all[i].next_idle = idle;
        idle = &all[i];
    }
    open_loop = rate > 0;
    gap_ns = open_loop ? (uint64_t)(1e9 / rate) : (uint64_t)(warm_s * 1e9 / (double)connections);
    due_ns = now_ns();
    begin_ns = due_ns + (uint64_t)(warm_s * 1e9);
    end_ns = stop_ns = begin_ns + (uint64_t)(seconds * 1e9);
    run(stop_ns + (uint64_t)(atof(given[DRAIN]) * 1e9));
    double took_s = (double)((now_ns() < end_ns ? now_ns() : end_ns) - begin_ns) / 1e9;
    printf("{\"requests\": %lu, \"events\": %lu, \"requests_per_s\": %.1f, \"events_per_s\": %.1f",
           (unsigned long)requests, (unsigned long)events, (double)measured_requests / took_s, (double)measured_events / took_s);
    printf(", \"errors\": {");
    for (int i = 0; i < ERRORS; i++) printf("%s\"%s\": %lu", i ? ", " : "", error_names[i], (unsigned long)errors[i]);
    printf("}");
    print_histogram("latency_us", &latency);
    print_histogram("first_event_us", &first_event);
    print_histogram("event_delay_us", &event_delay);
    puts("}");
    return 0;
}
