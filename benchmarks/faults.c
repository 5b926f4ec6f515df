/* A disk that fails: preloaded into a program, it lets one change of files under a folder go wrong (Linux).

   What is to happen stands in the file that FAULTS names, which all processes share (benchmarks/faults.py writes it): every
   call that changes a file or a folder under `root` is counted, and the one numbered `at` fails as `how` says. Where
   `durable` names a folder, what a power cut would leave is kept there: a file's bytes as they were when it was last
   synced, a folder's list of names as it was when that folder was synced, and nothing else. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum how { NONE, FAIL, BROKEN, FULL, SHORT, KILL, CUT };
enum call { MAKE, GROW, WRITE, SHRINK, NAME, REMOVE, SYNC };

struct control { /* as benchmarks/faults.py packs it */
    uint64_t count; /* changes so far */
    uint64_t failed; /* of these, how many went wrong */
    uint64_t objects; /* files and folders made so far, for names that no later one gets */
    uint64_t at; /* which change goes wrong, from 1; 0: none */
    int32_t how, error;
    char root[1024], durable[1024], last[1024]; /* last: the change that went wrong first, in words */
};

static struct control *control;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("FAULTS");
    int fd = name ? (int)((int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open"))(name, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *(*map)(void *, size_t, int, int, int, off_t) = dlsym(RTLD_NEXT, "mmap");
    void *place = map(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (place != MAP_FAILED) control = place;
    ((int (*)(int))dlsym(RTLD_NEXT, "close"))(fd);
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static int real_open(const char *path, int flags, int mode) {
    static int (*real)(const char *, int, ...);
    if (!real) real = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open64");
    return real(path, flags, mode);
}

static ssize_t real_write(int fd, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    return real(fd, data, size);
}

/* Paths */

static int under(const char *path) {
    size_t length = strlen(control->root);
    return length && !strncmp(path, control->root, length) && (path[length] == '/' || !path[length]);
}

static int path_of(int fd, char *path) { /* of an open file; whether it has one */
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(name, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
    return path[0] == '/';
}

static int whole(int folder, const char *given, char *path) { /* links followed, but for the last part */
    char joined[2 * PATH_MAX + 2], parent[PATH_MAX];
    if (given[0] == '/') snprintf(joined, sizeof joined, "%s", given);
    else if (folder == AT_FDCWD) {
        if (!getcwd(parent, sizeof parent)) return 0;
        snprintf(joined, sizeof joined, "%s/%s", parent, given);
    } else if (path_of(folder, parent)) snprintf(joined, sizeof joined, "%s/%s", parent, given);
    else return 0;
    for (size_t end = strlen(joined); end > 1 && joined[end - 1] == '/'; end--) joined[end - 1] = 0;
    char *slash = strrchr(joined, '/'), *last = slash + 1;
    *slash = 0;
    if (!realpath(*joined ? joined : "/", parent)) return 0;
    return snprintf(path, PATH_MAX, "%s/%s", strcmp(parent, "/") ? parent : "", last) < PATH_MAX;
}

/* What is durable: NUMBER.MAKE under `durable` is a file's bytes or a folder's list of "NUMBER.MAKE NAME", where NUMBER
   is the inode and MAKE says which of those that have had this inode it is; made/NUMBER holds the present MAKE. */

static void beside(char *place, const char *format, unsigned long long inode, unsigned long long made) {
    snprintf(place + snprintf(place, PATH_MAX, "%s/", control->durable), 100, format, inode, made);
}

static unsigned long long made(unsigned long long inode) {
    char place[PATH_MAX + 100], text[32] = "0";
    beside(place, "made-%llu", inode, 0);
    int fd = real_open(place, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) return 0;
    if (read(fd, text, sizeof text - 1) < 0) text[0] = 0;
    close(fd);
    return strtoull(text, NULL, 10);
}

static void born(const char *path) { /* nothing of a new file or folder is durable */
    struct stat about;
    char place[PATH_MAX + 100], text[32];
    if (!control->durable[0] || lstat(path, &about)) return;
    beside(place, "made-%llu", about.st_ino, 0);
    int fd = real_open(place, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int length = snprintf(text, sizeof text, "%llu", (unsigned long long)__sync_add_and_fetch(&control->objects, 1));
    if (fd < 0 || real_write(fd, text, length) != length) abort();
    close(fd);
}

static void keep(int fd, const char *path) { /* as it is now */
    struct stat about;
    char place[PATH_MAX + 100], draft[PATH_MAX + 200];
    if (!control->durable[0] || fstat(fd, &about)) return;
    beside(place, "%llu.%llu", about.st_ino, made(about.st_ino));
    snprintf(draft, sizeof draft, "%s.%d", place, (int)gettid());
    int out = real_open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), problem = out < 0;
    if (S_ISDIR(about.st_mode)) {
        DIR *folder = opendir(path);
        for (struct dirent *entry; folder && (entry = readdir(folder));) {
            struct stat inner;
            char name[PATH_MAX + 300], line[600];
            snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
            if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") || lstat(name, &inner)) continue;
            const char *kind = S_ISDIR(inner.st_mode) ? "folder" : "file";
            int length = snprintf(line, sizeof line, "%llu.%llu %s %s\n", (unsigned long long)inner.st_ino,
                                  made(inner.st_ino), kind, entry->d_name);
            problem |= real_write(out, line, length) != length;
        }
        if (folder) closedir(folder);
    } else {
        char again[64], block[1 << 16];
        snprintf(again, sizeof again, "/proc/self/fd/%d", fd);
        int in = real_open(again, O_RDONLY | O_CLOEXEC, 0);
        for (ssize_t got; (got = read(in, block, sizeof block)) > 0;) problem |= real_write(out, block, got) != got;
        problem |= in < 0;
        close(in);
    }
    struct timespec times[2] = {about.st_atim, about.st_mtim}; /* a photograph's time is part of what a store is made of */
    futimens(out, times);
    close(out);
    int (*move)(const char *, const char *) = (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
    if (problem || move(draft, place)) abort();
}

/* Whether this change goes wrong; then errno says how, unless it is to be short. */

static int fails(enum call call, const char *what, const char *path) {
    if (!control || !under(path)) return 0;
    uint64_t number = __sync_add_and_fetch(&control->count, 1), at = control->at;
    int how = control->how;
    if (!at || number < at) return 0;
    int later = number > at;
    if (call == REMOVE && control->error == ENOSPC) return 0; /* which gives room */
    if (how == FULL && call != WRITE && call != GROW) return 0; /* the rest needs no room */
    if (later && how != FULL && how != BROKEN) return 0;
    if (__sync_fetch_and_add(&control->failed, 1) == 0)
        snprintf(control->last, sizeof control->last, "%s %s", what, path);
    if (how == KILL || how == CUT) {
        kill(how == CUT ? 0 : getpid(), SIGKILL);
        for (;;) pause();
    }
    if (how == SHORT || (how == FULL && !later && call == WRITE)) return call == WRITE ? -1 : 0;
    errno = control->error;
    return 1;
}

static int fails_at(enum call call, const char *what, int folder, const char *given) {
    char path[PATH_MAX];
    return control && given && whole(folder, given, path) && fails(call, what, path);
}

static int fails_fd(enum call call, const char *what, int fd) {
    char path[PATH_MAX];
    return control && path_of(fd, path) ? fails(call, what, path) : 0;
}

/* Opening */

static int opened(const char *symbol, int folder, const char *given, int flags, int mode) {
    char path[PATH_MAX];
    struct stat about;
    int known = control && given && whole(folder, given, path) && under(path);
    int is_new = known && lstat(path, &about);
    int makes = (flags & O_CREAT) && is_new, changes = makes || (flags & O_TRUNC) || (flags & O_TMPFILE) == O_TMPFILE;
    if (known && changes && fails(makes ? MAKE : SHRINK, "open", path) > 0) return -1;
    int (*real)(int, const char *, int, ...) = (int (*)(int, const char *, int, ...))dlsym(RTLD_NEXT, symbol);
    int fd = real(folder, given, flags, mode);
    if (fd >= 0 && makes) born(path);
    return fd;
}

#define MODE(flags) \
    int mode = 0; \
    if ((flags) & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, int); \
        va_end(rest); \
    }

int open(const char *path, int flags, ...) { MODE(flags) return opened("openat", AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return opened("openat64", AT_FDCWD, path, flags, mode); }
int __open_2(const char *path, int flags) { return opened("openat", AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return opened("openat64", AT_FDCWD, path, flags, 0); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) return opened("openat", at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) return opened("openat64", at, path, flags, mode); }
int creat(const char *path, mode_t mode) { return opened("openat", AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return opened("openat64", AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

static FILE *streamed(const char *symbol, const char *path, const char *mode) {
    char place[PATH_MAX];
    struct stat about;
    int known = control && path && mode[0] != 'r' && whole(AT_FDCWD, path, place) && under(place);
    int is_new = known && lstat(place, &about);
    if (known && (is_new || mode[0] == 'w') && fails(is_new ? MAKE : SHRINK, "fopen", place) > 0) return NULL;
    FILE *(*real)(const char *, const char *) = (FILE * (*)(const char *, const char *))dlsym(RTLD_NEXT, symbol);
    FILE *file = real(path, mode);
    if (file && is_new) born(place);
    return file;
}

FILE *fopen(const char *path, const char *mode) { return streamed("fopen", path, mode); }
FILE *fopen64(const char *path, const char *mode) { return streamed("fopen64", path, mode); }

/* Writing */

#define WRITES(name, parameters, arguments, shorter) \
    ssize_t name parameters { \
        REAL(ssize_t, #name, TYPES parameters); \
        int wrong = fails_fd(WRITE, #name, fd); \
        if (wrong > 0) return -1; \
        if (wrong < 0) shorter; \
        return real arguments; \
    }
#define TYPES(...) __VA_ARGS__
#define HALVE size = size > 1 ? size / 2 : size
#define ONE_PART count = count > 1 ? count / 2 : count

WRITES(write, (int fd, const void *data, size_t size), (fd, data, size), HALVE)
WRITES(pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at), HALVE)
WRITES(pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at), HALVE)
WRITES(writev, (int fd, const struct iovec *parts, int count), (fd, parts, count), ONE_PART)
WRITES(pwritev, (int fd, const struct iovec *parts, int count, off_t at), (fd, parts, count, at), ONE_PART)
WRITES(pwritev64, (int fd, const struct iovec *parts, int count, off64_t at), (fd, parts, count, at), ONE_PART)
WRITES(sendfile, (int fd, int from, off_t *at, size_t size), (fd, from, at, size), HALVE)
WRITES(sendfile64, (int fd, int from, off64_t *at, size_t size), (fd, from, at, size), HALVE)

ssize_t copy_file_range(int from, off64_t *start, int fd, off64_t *at, size_t size, unsigned flags) {
    REAL(ssize_t, "copy_file_range", int, off64_t *, int, off64_t *, size_t, unsigned);
    int wrong = fails_fd(WRITE, "copy_file_range", fd);
    if (wrong > 0) return -1;
    if (wrong < 0) HALVE;
    return real(from, start, fd, at, size, flags);
}

#define RESIZES(name, size_type) \
    int name(int fd, size_type size) { \
        REAL(int, #name, int, size_type); \
        return fails_fd(SHRINK, #name, fd) > 0 ? -1 : real(fd, size); \
    }

RESIZES(ftruncate, off_t)
RESIZES(ftruncate64, off64_t)

#define RESERVES(name, size_type) \
    int name(int fd, size_type start, size_type size) { \
        REAL(int, #name, int, size_type, size_type); \
        return fails_fd(GROW, #name, fd) > 0 ? errno : real(fd, start, size); \
    }

RESERVES(posix_fallocate, off_t)
RESERVES(posix_fallocate64, off64_t)

#define MAPS(name, size_type) \
    void *name(void *place, size_t size, int access, int flags, int fd, size_type at) { \
        REAL(void *, #name, void *, size_t, int, int, int, size_type); \
        int writes = fd >= 0 && (flags & MAP_SHARED) && (access & PROT_WRITE); \
        return writes && fails_fd(GROW, #name, fd) > 0 ? MAP_FAILED : real(place, size, access, flags, fd, at); \
    }

MAPS(mmap, off_t)
MAPS(mmap64, off64_t)

/* Names */

static int pair_fails(enum call call, const char *what, int from, const char *old, int to, const char *new) {
    char path[PATH_MAX];
    int inside = control && ((whole(from, old, path) && under(path)) || (whole(to, new, path) && under(path)));
    return inside && fails(call, what, path) > 0;
}

int renameat2(int from, const char *old, int to, const char *new, unsigned flags) {
    REAL(int, "renameat2", int, const char *, int, const char *, unsigned);
    return pair_fails(NAME, "rename", from, old, to, new) ? -1 : real(from, old, to, new, flags);
}
int renameat(int from, const char *old, int to, const char *new) {
    REAL(int, "renameat", int, const char *, int, const char *);
    return pair_fails(NAME, "rename", from, old, to, new) ? -1 : real(from, old, to, new);
}
int rename(const char *old, const char *new) {
    REAL(int, "rename", const char *, const char *);
    return pair_fails(NAME, "rename", AT_FDCWD, old, AT_FDCWD, new) ? -1 : real(old, new);
}
int linkat(int from, const char *old, int to, const char *new, int flags) {
    REAL(int, "linkat", int, const char *, int, const char *, int);
    return pair_fails(MAKE, "link", from, old, to, new) ? -1 : real(from, old, to, new, flags);
}
int link(const char *old, const char *new) {
    REAL(int, "link", const char *, const char *);
    return pair_fails(MAKE, "link", AT_FDCWD, old, AT_FDCWD, new) ? -1 : real(old, new);
}
int symlinkat(const char *target, int at, const char *path) {
    REAL(int, "symlinkat", const char *, int, const char *);
    return fails_at(MAKE, "symlink", at, path) ? -1 : real(target, at, path);
}
int symlink(const char *target, const char *path) { return symlinkat(target, AT_FDCWD, path); }

static int made_folder(int at, const char *given, mode_t mode) {
    char path[PATH_MAX];
    struct stat about;
    REAL(int, "mkdirat", int, const char *, mode_t);
    int known = control && given && whole(at, given, path) && under(path) && lstat(path, &about);
    if (known && fails(MAKE, "mkdir", path) > 0) return -1;
    int status = real(at, given, mode);
    if (!status && known) born(path);
    return status;
}
int mkdirat(int at, const char *path, mode_t mode) { return made_folder(at, path, mode); }
int mkdir(const char *path, mode_t mode) { return made_folder(AT_FDCWD, path, mode); }

int unlinkat(int at, const char *path, int flags) {
    REAL(int, "unlinkat", int, const char *, int);
    return fails_at(REMOVE, "unlink", at, path) ? -1 : real(at, path, flags);
}
int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    return fails_at(REMOVE, "unlink", AT_FDCWD, path) ? -1 : real(path);
}
int rmdir(const char *path) {
    REAL(int, "rmdir", const char *);
    return fails_at(REMOVE, "rmdir", AT_FDCWD, path) ? -1 : real(path);
}
int remove(const char *path) {
    REAL(int, "remove", const char *);
    return fails_at(REMOVE, "remove", AT_FDCWD, path) ? -1 : real(path);
}

/* To the disk */

static int synced(const char *symbol, int fd) {
    char path[PATH_MAX];
    int known = control && path_of(fd, path) && under(path);
    if (known && fails(SYNC, symbol, path) > 0) return -1;
    int status = 0; /* the real disk is left in peace: this machine will not lose power */
    if (!known) status = ((int (*)(int))dlsym(RTLD_NEXT, symbol))(fd);
    if (known) keep(fd, path);
    return status;
}
int fsync(int fd) { return synced("fsync", fd); }
int fdatasync(int fd) { return synced("fdatasync", fd); }
