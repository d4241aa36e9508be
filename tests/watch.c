/* Loaded before a program: writes what the program asks of the network and which files it opens for writing, one line
 * each, into the file that WATCH_LOG names. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int real_open(const char *path, int flags, mode_t mode) {
    static int (*found)(const char *, int, ...) = NULL;
    if (found == NULL) *(void **)&found = dlsym(RTLD_NEXT, "open");
    return found(path, flags, mode);
}

static void note(const char *what, const char *name) {
    char line[4200];
    const char *log = getenv("WATCH_LOG");
    if (log == NULL || strcmp(name, log) == 0) return;
    const int length = snprintf(line, sizeof line, "%s %s\n", what, name);
    const int file = real_open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (file >= 0 && length > 0) {
        const ssize_t written = write(file, line, (size_t)length);
        (void)written;
        close(file);
    }
}

static void note_open(const char *path, int flags) {
    if ((flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT)) note("write", path);
}

static mode_t mode_of(int flags, va_list rest) { return flags & (O_CREAT | O_TMPFILE) ? (mode_t)va_arg(rest, int) : 0; }

#define OPEN(name)                              \
    int name(const char *path, int flags, ...) { \
        va_list rest;                           \
        va_start(rest, flags);                  \
        const mode_t mode = mode_of(flags, rest); \
        va_end(rest);                           \
        note_open(path, flags);                 \
        return real_open(path, flags, mode);    \
    }
#define OPENAT(name)                                                             \
    int name(int folder, const char *path, int flags, ...) {                     \
        static int (*found)(int, const char *, int, ...) = NULL;                 \
        if (found == NULL) *(void **)&found = dlsym(RTLD_NEXT, #name);           \
        va_list rest;                                                            \
        va_start(rest, flags);                                                   \
        const mode_t mode = mode_of(flags, rest);                                \
        va_end(rest);                                                            \
        note_open(path, flags);                                                  \
        return found(folder, path, flags, mode);                                 \
    }
#define FOPEN(name)                                                    \
    FILE *name(const char *path, const char *mode) {                   \
        static FILE *(*found)(const char *, const char *) = NULL;      \
        if (found == NULL) *(void **)&found = dlsym(RTLD_NEXT, #name); \
        if (strpbrk(mode, "wa+") != NULL) note("write", path);         \
        return found(path, mode);                                      \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
FOPEN(fopen)
FOPEN(fopen64)

/* Loopback is the machine itself, and Python's uuid opens a socket just to read the machine's own address. */
static void note_address(const char *what, const struct sockaddr *address) {
    char name[INET6_ADDRSTRLEN] = "";
    if (address == NULL) return;
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
        if (ntohl(v4->sin_addr.s_addr) >> 24 == 127) return;
        inet_ntop(AF_INET, &v4->sin_addr, name, sizeof name);
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
        if (IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr)) return;
        inet_ntop(AF_INET6, &v6->sin6_addr, name, sizeof name);
    } else {
        return;
    }
    note(what, name);
}

int connect(int file, const struct sockaddr *address, socklen_t length) {
    static int (*found)(int, const struct sockaddr *, socklen_t) = NULL;
    if (found == NULL) *(void **)&found = dlsym(RTLD_NEXT, "connect");
    note_address("connect", address);
    return found(file, address, length);
}

ssize_t sendto(int file, const void *data, size_t size, int flags, const struct sockaddr *address, socklen_t length) {
    static ssize_t (*found)(int, const void *, size_t, int, const struct sockaddr *, socklen_t) = NULL;
    if (found == NULL) *(void **)&found = dlsym(RTLD_NEXT, "sendto");
    note_address("send", address);
    return found(file, data, size, flags, address, length);
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **list) {
    static int (*found)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = NULL;
    if (found == NULL) *(void **)&found = dlsym(RTLD_NEXT, "getaddrinfo");
    note("lookup", node == NULL ? "" : node);
    return found(node, service, hints, list);
}
