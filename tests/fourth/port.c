/* A fourth implementation, written from the kit's README: C11, its standard library, and nothing else.

   port KIT ANSWERS [CHECK ...]   reads KIT/CHECK.safetensors, writes ANSWERS/CHECK.safetensors; all checks if none is named

   -DREAL=float works in single precision (then check 6 is its one step alone). -DMUTANT=n plants mistake n, for the
   test that the kit finds it. Little-endian machines only. Memory is returned at the end. */

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tgmath.h>

#ifndef REAL
#define REAL double
#endif
#ifndef MUTANT
#define MUTANT 0
#endif

typedef REAL real;
enum { LAYERS = 16, NAME = 128, RANK = 5, PURPOSES = 15 };
enum { WEIGHTS, ORDER, ZOOM, VIEW, DROPOUT };
static const double PI = 3.141592653589793;

static void stop(const char *what, const char *which) {
    fprintf(stderr, "port: %s %s\n", what, which);
    exit(1);
}

/* Text in the manner of printf, into a name. */
static void spell(char *into, const char *format, ...) {
    va_list parts;
    va_start(parts, format);
    if (vsnprintf(into, NAME, format, parts) >= NAME) stop("too long a name:", into);
    va_end(parts);
}

static void *room(size_t count, size_t size) {
    void *place = calloc(count ? count : 1, size);
    if (!place) stop("no memory for", "an array");
    return place;
}

/* ---- safetensors: a header of JSON, then numbers ---- */

typedef struct {
    char name[NAME], type[8];
    int rank;
    int64_t shape[RANK];
    size_t count, begin, end;
    unsigned char *bytes;
} Array;

typedef struct {
    Array array[256];
    int count;
} File;

static char *space(char *at) {
    return at + strspn(at, " \t\r\n");
}

static char *expect(char *at, char what) {
    at = space(at);
    if (*at != what) stop("a broken header, at", at);
    return at + 1;
}

static int follows(char **at, char what) {
    *at = space(*at);
    if (**at != what) return 0;
    ++*at;
    return 1;
}

static char *text(char *at, char *into, size_t size) {
    at = expect(at, '"');
    size_t length = strcspn(at, "\"\\");
    if (at[length] != '"' || length >= size) stop("a name that is none, at", at);
    memcpy(into, at, length);
    into[length] = 0;
    return at + length + 1;
}

static char *list(char *at, int64_t *into, int *count) {
    at = expect(at, '[');
    *count = 0;
    while (!follows(&at, ']')) {
        if (*count) at = expect(at, ',');
        if (*count == RANK) stop("too many axes, at", at);
        into[(*count)++] = strtoll(space(at), &at, 10);
    }
    return at;
}

static char *entry(char *at, Array *array) {
    char key[NAME], value[4096];
    at = expect(at, '{');
    for (int first = 1; !follows(&at, '}'); first = 0) {
        if (!first) at = expect(at, ',');
        at = expect(text(at, key, sizeof key), ':');
        if (!strcmp(key, "dtype")) {
            at = text(at, array->type, sizeof array->type);
        } else if (!strcmp(key, "shape")) {
            at = list(at, array->shape, &array->rank);
        } else if (!strcmp(key, "data_offsets")) {
            int64_t offsets[RANK];
            int two;
            at = list(at, offsets, &two);
            array->begin = (size_t)offsets[0], array->end = (size_t)offsets[1];
        } else {
            at = text(at, value, sizeof value); /* of __metadata__ */
        }
    }
    array->count = 1;
    for (int axis = 0; axis < array->rank; axis++) array->count *= (size_t)array->shape[axis];
    return at;
}

static FILE *open_file(const char *folder, const char *name, const char *mode) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.safetensors", folder, name);
    FILE *stream = fopen(path, mode);
    if (!stream) stop("cannot open", path);
    return stream;
}

static File *load(const char *folder, const char *name) {
    FILE *stream = open_file(folder, name, "rb");
    File *file = room(1, sizeof *file);
    uint64_t length;
    if (fread(&length, 8, 1, stream) != 1) stop("no header in", name);
    char *header = room(length + 1, 1);
    if (fread(header, 1, length, stream) != length) stop("a short header in", name);
    char *at = expect(header, '{');
    while (!follows(&at, '}')) {
        if (file->count == 256) stop("too many arrays in", name);
        Array *array = &file->array[file->count];
        if (at[-1] != '{') at = expect(at, ',');
        at = expect(text(at, array->name, NAME), ':');
        at = entry(at, array);
        if (strcmp(array->name, "__metadata__")) file->count++;
    }
    for (int i = 0; i < file->count; i++) {
        Array *array = &file->array[i];
        size_t size = array->end - array->begin;
        array->bytes = room(size, 1);
        fseek(stream, (long)(8 + length + array->begin), SEEK_SET);
        if (fread(array->bytes, 1, size, stream) != size) stop("data are missing in", name);
    }
    fclose(stream);
    return file;
}

static Array *seek(File *file, const char *name) {
    for (int i = 0; i < file->count; i++)
        if (!strcmp(file->array[i].name, name)) return &file->array[i];
    return NULL;
}

static Array *find(File *file, const char *name) {
    Array *array = seek(file, name);
    if (!array) stop("there is no array", name);
    return array;
}

static double *doubles(File *file, const char *name) {
    Array *array = find(file, name);
    double *result = room(array->count, sizeof *result);
    for (size_t i = 0; i < array->count; i++) {
        float single;
        if (!strcmp(array->type, "F64")) {
            memcpy(&result[i], array->bytes + 8 * i, 8);
        } else {
            memcpy(&single, array->bytes + 4 * i, 4);
            result[i] = single;
        }
    }
    return result;
}

static real *reals(File *file, const char *name) {
    double *wide = doubles(file, name);
    size_t count = find(file, name)->count;
    real *result = room(count, sizeof *result);
    for (size_t i = 0; i < count; i++) result[i] = (real)wide[i];
    free(wide);
    return result;
}

static uint64_t *wholes(File *file, const char *name) {
    Array *array = find(file, name);
    size_t size = array->type[1] == '8' ? 1 : array->type[1] == '3' ? 4 : 8;
    uint64_t *result = room(array->count, sizeof *result);
    for (size_t i = 0; i < array->count; i++) {
        memcpy(&result[i], array->bytes + size * i, size);
        if (!strcmp(array->type, "I32")) result[i] = (uint64_t)(int64_t)(int32_t)result[i];
    }
    return result;
}

static int64_t whole(File *file, const char *name) {
    return (int64_t)wholes(file, name)[0];
}

static double number(File *file, const char *name) {
    return doubles(file, name)[0];
}

/* An array to be written; the shape ends with -1. */
static void put(File *file, const char *name, const char *type, const void *data, ...) {
    Array *array = &file->array[file->count++];
    if (file->count > 256) stop("too many answers, at", name);
    spell(array->name, "%s", name);
    snprintf(array->type, sizeof array->type, "%s", type);
    va_list shape;
    va_start(shape, data);
    array->count = 1;
    for (int64_t axis; (axis = va_arg(shape, int64_t)) >= 0;) {
        array->shape[array->rank++] = axis;
        array->count *= (size_t)axis;
    }
    va_end(shape);
    size_t bytes = array->count * (type[1] == '8' ? 1 : type[1] == '3' ? 4 : 8);
    array->bytes = room(bytes, 1);
    memcpy(array->bytes, data, bytes);
    array->begin = file->count > 1 ? array[-1].end : 0;
    array->end = array->begin + bytes;
}

#define L(n) ((int64_t)(n))
#define PUT(file, name, type, data, ...) put(file, name, type, data, __VA_ARGS__, L(-1))
#define FLOATS (sizeof(real) == 8 ? "F64" : "F32")

static void save(File *file, const char *folder, const char *name) {
    char *header = room((size_t)file->count + 1, 2 * NAME + 200), *at = header;
    at += sprintf(at, "{");
    for (int i = 0; i < file->count; i++) {
        Array *array = &file->array[i];
        at += sprintf(at, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", i ? "," : "", array->name, array->type);
        for (int axis = 0; axis < array->rank; axis++)
            at += sprintf(at, "%s%" PRId64, axis ? "," : "", array->shape[axis]);
        at += sprintf(at, "],\"data_offsets\":[%zu,%zu]}", array->begin, array->end);
    }
    at += sprintf(at, "}");
    while ((at - header) % 8) *at++ = ' ';
    uint64_t length = (uint64_t)(at - header);
    FILE *stream = open_file(folder, name, "wb");
    fwrite(&length, 8, 1, stream);
    fwrite(header, 1, length, stream);
    for (int i = 0; i < file->count; i++)
        fwrite(file->array[i].bytes, 1, file->array[i].end - file->array[i].begin, stream);
    if (fclose(stream)) stop("cannot write", name);
}

/* ---- 1. random numbers ---- */

typedef struct {
    uint32_t a, b;
} Pair;

static uint32_t rotated(uint32_t word, int bits) {
    return word << bits | word >> (32 - bits);
}

static Pair threefry(Pair key, Pair counter) {
    static const int turns[2][4] = {{13, 15, MUTANT == 3 ? 27 : 26, 6}, {17, 29, 16, 24}};
    const uint32_t k[3] = {key.a, key.b, key.a ^ key.b ^ 0x1BD11BDAu};
    uint32_t x = counter.a + k[0], y = counter.b + k[1];
    for (int group = 0; group < 5; group++) {
        for (int i = 0; i < 4; i++) {
            x += y;
            y = rotated(y, turns[group % 2][i]) ^ x;
        }
        x += k[(group + 1) % 3];
        y += k[(group + 2) % 3] + (uint32_t)group + 1;
    }
    return (Pair){x, y};
}

static Pair halves(uint64_t value) {
    return (Pair){(uint32_t)(value >> 32), (uint32_t)value};
}

static Pair purpose_key(uint64_t seed, uint32_t purpose) {
    return threefry(halves(seed), (Pair){0, purpose});
}

static Pair galaxy_key(uint64_t seed, uint32_t purpose, uint64_t hash) {
    return threefry(purpose_key(seed, purpose), halves(hash));
}

static uint32_t word(Pair key, uint32_t index, uint32_t i) {
    Pair two = threefry(key, MUTANT == 13 ? (Pair){i >> 1, index} : (Pair){index, i >> 1});
    return i % 2 ? two.b : two.a;
}

static double uniform(Pair key, uint32_t index, uint32_t i) {
    return (word(key, index, i) >> 8) * 0x1p-24;
}

static int keeps(Pair key, uint32_t index, uint32_t unit, double rate) {
    uint32_t drawn = word(key, index, unit);
    return (MUTANT == 11 ? drawn & 0xFFFFFF : drawn >> 8) >= (uint32_t)lround(rate * 0x1p24);
}

static uint64_t right(uint64_t value, int bits) {
    return value >> bits | value << (64 - bits);
}

static uint64_t blake2b_8(const unsigned char *message, size_t length) {
    static const uint64_t start[8] = {
        0x6a09e667f3bcc908u, 0xbb67ae8584caa73bu, 0x3c6ef372fe94f82bu, 0xa54ff53a5f1d36f1u,
        0x510e527fade682d1u, 0x9b05688c2b3e6c1fu, 0x1f83d9abfb41bd6bu, 0x5be0cd19137e2179u};
    static const unsigned char order[10][16] = {
        {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
        {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
        {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4},
        {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
        {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13},
        {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
        {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11},
        {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
        {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5},
        {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0}};
    static const unsigned char mixed[8][4] = {{0, 4, 8, 12}, {1, 5, 9, 13}, {2, 6, 10, 14}, {3, 7, 11, 15},
                                              {0, 5, 10, 15}, {1, 6, 11, 12}, {2, 7, 8, 13}, {3, 4, 9, 14}};
    uint64_t h[8], v[16], m[16];
    memcpy(h, start, sizeof h);
    h[0] ^= 0x01010000u ^ (MUTANT == 9 ? 64 : 8);
    for (size_t done = 0, last = 0; !last;) {
        size_t part = length - done < 128 ? length - done : 128;
        memset(m, 0, sizeof m);
        memcpy(m, message + done, part);
        done += part;
        last = done == length;
        memcpy(v, h, sizeof h);
        memcpy(v + 8, start, sizeof h);
        v[12] ^= done;
        if (last) v[14] = ~v[14];
        for (int round = 0; round < 12; round++) {
            for (int g = 0; g < 8; g++) {
                uint64_t *a = v + mixed[g][0], *b = v + mixed[g][1], *c = v + mixed[g][2], *d = v + mixed[g][3];
                *a += *b + m[order[round % 10][2 * g]], *d = right(*d ^ *a, 32), *c += *d, *b = right(*b ^ *c, 24);
                *a += *b + m[order[round % 10][2 * g + 1]], *d = right(*d ^ *a, 16), *c += *d, *b = right(*b ^ *c, 63);
            }
        }
        for (int i = 0; i < 8; i++) h[i] ^= v[i] ^ v[i + 8];
    }
    return h[0];
}

typedef struct {
    uint32_t first, second;
    uint64_t hash;
    int64_t place;
} Ranked;

static int by_words(const void *one, const void *other) {
    const Ranked *a = one, *b = other;
    if (a->first != b->first) return a->first < b->first ? -1 : 1;
    if (a->second != b->second) return a->second < b->second ? -1 : 1;
    return a->hash < b->hash ? -1 : a->hash > b->hash;
}

static void epoch_order(uint64_t seed, const uint64_t *hashes, int64_t count, uint32_t epoch, int64_t *order) {
    Ranked *ranked = room((size_t)count, sizeof *ranked);
    for (int64_t i = 0; i < count; i++) {
        Pair key = galaxy_key(seed, ORDER, hashes[i]);
        ranked[i] = (Ranked){word(key, epoch, 0), word(key, epoch, 1), hashes[i], i};
    }
    qsort(ranked, (size_t)count, sizeof *ranked, by_words);
    for (int64_t i = 0; i < count; i++) order[i] = ranked[i].place;
    free(ranked);
}

typedef struct {
    double size, out, crop, zoom[2], brightness, contrast[2];
} Looks;

static double between(double u, const double *bounds) {
    return bounds[0] + (bounds[1] - bounds[0]) * u;
}

static void bilinear_view(const Looks *looks, double zoom, double angle, const double *flip, const double *shift,
                          float *turn, int32_t *window) {
    double field = looks->crop * looks->size, width = field / zoom, per_pixel = width / looks->out, start[2];
    double r[2][2] = {{cos(angle) * flip[0], -sin(angle) * flip[1]}, {sin(angle) * flip[0], cos(angle) * flip[1]}};
    for (int i = 0; i < 2; i++) start[i] = (shift[i] - 0.5) * (field - width) - (looks->out - 1) / 2 * per_pixel;
    for (int i = 0; i < 2; i++) {
        for (int j = 0; j < 2; j++) turn[3 * i + j] = (float)(r[i][j] * per_pixel);
        turn[3 * i + 2] = (float)((looks->size - 1) / 2 + r[i][0] * start[0] + r[i][1] * start[1]);
    }
    window[0] = window[1] = 0, window[2] = (int32_t)looks->out;
}

static void nearest_view(const Looks *looks, double zoom, double angle, const double *flip, const double *shift,
                         float *turn, int32_t *window) {
    double field = nearbyint(looks->crop * looks->size), width = trunc(field / zoom), start = -(field - 1) / 2;
    double r[2][2] = {{cos(angle) * flip[0], -sin(angle) * flip[1]}, {sin(angle) * flip[0], cos(angle) * flip[1]}};
    for (int i = 0; i < 2; i++) {
        for (int j = 0; j < 2; j++) turn[3 * i + j] = (float)r[i][j];
        turn[3 * i + 2] = (float)((looks->size - 1) / 2 + (r[i][0] + r[i][1]) * start);
        window[i] = (int32_t)fmin(floor(shift[i] * (field - width + 1)), field - width);
    }
    window[2] = (int32_t)width;
}

static void views(File *in, File *out, uint64_t seed, const uint64_t *hashes, const int64_t *rows, int64_t steps,
                  int64_t batch) {
    const uint64_t *step = wholes(in, "in/steps");
    const double *zooms = doubles(in, "in/zoom"), *contrasts = doubles(in, "in/contrast");
    Looks looks = {(double)whole(in, "in/image_size"), (double)whole(in, "in/network_size"), number(in, "in/crop"),
                   {zooms[0], zooms[1]}, number(in, "in/brightness"), {contrasts[0], contrasts[1]}};
    size_t count = (size_t)(steps * batch);
    float *turn[2], *light = room(count, 8), still_light[2] = {0, 1}, still_turn[6];
    int32_t *window[2], still_window[3];
    for (int kind = 0; kind < 2; kind++) turn[kind] = room(count, 24), window[kind] = room(count, 12);
    for (size_t i = 0; i < count; i++) {
        uint32_t at = (uint32_t)step[i / (size_t)batch];
        Pair key = galaxy_key(seed, VIEW, hashes[rows[i]]);
        double u[8];
        for (uint32_t j = 0; j < 8; j++) u[j] = uniform(key, at, j);
        double flip[2] = {u[2] < 0.5 ? -1 : 1, u[3] < 0.5 ? -1 : 1};
        double shared = uniform(purpose_key(seed, ZOOM), at / 15, 0);
        bilinear_view(&looks, between(u[0], looks.zoom), 2 * PI * u[1], flip, u + 4, turn[0] + 6 * i, window[0] + 3 * i);
        nearest_view(&looks, between(shared, looks.zoom), PI * u[1], flip, u + 4, turn[1] + 6 * i, window[1] + 3 * i);
        light[2 * i] = (float)((2 * u[6] - 1) * looks.brightness);
        light[2 * i + 1] = (float)between(u[7], looks.contrast);
    }
    bilinear_view(&looks, (looks.zoom[0] + looks.zoom[1]) / 2, 0, (double[]){1, 1}, (double[]){0.5, 0.5}, still_turn,
                  still_window);
    PUT(out, "out/bilinear/turn", "F32", turn[0], steps, batch, L(2), L(3));
    PUT(out, "out/bilinear/window", "I32", window[0], steps, batch, L(3));
    PUT(out, "out/bilinear/light", "F32", light, steps, batch, L(2));
    PUT(out, "out/nearest/turn", "F32", turn[1], steps, batch, L(2), L(3));
    PUT(out, "out/nearest/window", "I32", window[1], steps, batch, L(3));
    PUT(out, "out/nearest/light", "F32", light, steps, batch, L(2));
    PUT(out, "out/still/turn", "F32", still_turn, L(1), L(2), L(3));
    PUT(out, "out/still/window", "I32", still_window, L(1), L(3));
    PUT(out, "out/still/light", "F32", still_light, L(1), L(2));
}

static void first_array(File *out, Pair key, int which, const char *name, int rank, const int64_t *shape) {
    char path[NAME];
    size_t count = 1;
    double inputs = rank > 1 ? (double)shape[rank - 2] : 0, field = rank == 4 ? 9 : 1;
    for (int axis = 0; axis < rank; axis++) count *= (size_t)shape[axis];
    float *values = room(count, 4);
    double limit = sqrt(6 / (field * (inputs + (double)shape[rank - 1])));
    for (size_t i = 0; i < count && rank > 1; i++)
        values[i] = (float)(limit * (2 * uniform(key, (uint32_t)which, (uint32_t)i) - 1));
    spell(path, "out/first/%s", name);
    if (rank == 4) PUT(out, path, "F32", values, shape[0], shape[1], shape[2], shape[3]);
    if (rank == 2) PUT(out, path, "F32", values, shape[0], shape[1]);
    if (rank == 1) PUT(out, path, "F32", values, shape[0]);
}

static void first_weights(File *in, File *out, uint64_t seed) {
    const uint64_t *filters = wholes(in, "in/filters"), *pooled = wholes(in, "in/pooled");
    int64_t channels = 1, width = whole(in, "in/network_size"), dense = whole(in, "in/dense");
    int which = 0, count = (int)find(in, "in/filters")->count;
    Pair key = purpose_key(seed, WEIGHTS);
    char name[NAME];
    for (int i = 0; i < count; i++) {
        int64_t next = (int64_t)filters[i];
        spell(name, "conv%d/kernel", i);
        first_array(out, key, which++, name, 4, (int64_t[]){3, 3, channels, next});
        spell(name, "conv%d/bias", i);
        first_array(out, key, which++, name, 1, &next);
        channels = next;
        if (pooled[i]) width /= 2;
    }
    first_array(out, key, which++, "hidden/kernel", 2, (int64_t[]){width * width * channels, dense});
    first_array(out, key, which++, "hidden/bias", 1, &dense);
    first_array(out, key, which++, "answer/kernel", 2, (int64_t[]){dense, 2});
    first_array(out, key, which++, "answer/bias", 1, (int64_t[]){2});
}

static void check_1(File *in, File *out) {
    const uint64_t *key = wholes(in, "in/key"), *counter = wholes(in, "in/counter"), *seeds = wholes(in, "in/seeds");
    int64_t cases = find(in, "in/key")->shape[0], many = find(in, "in/seeds")->shape[0];
    Pair *words = room((size_t)cases, 8), *purposes = room((size_t)many * PURPOSES, 8);
    for (int64_t i = 0; i < cases; i++)
        words[i] = threefry((Pair){(uint32_t)key[2 * i], (uint32_t)key[2 * i + 1]},
                            (Pair){(uint32_t)counter[2 * i], (uint32_t)counter[2 * i + 1]});
    for (int64_t i = 0; i < many * PURPOSES; i++) purposes[i] = purpose_key(seeds[i / PURPOSES], (uint32_t)(i % PURPOSES));
    PUT(out, "out/words", "U32", words, cases, L(2));
    PUT(out, "out/purpose_keys", "U32", purposes, many, L(PURPOSES), L(2));

    uint64_t seed = wholes(in, "in/seed")[0];
    const uint64_t *ends = wholes(in, "in/id_ends"), *index = wholes(in, "in/index");
    int64_t ids = find(in, "in/id_ends")->shape[0], places = find(in, "in/index")->shape[0];
    uint64_t *hashes = room((size_t)ids, 8);
    Pair *keys = room((size_t)(PURPOSES * ids), 8);
    for (int64_t i = 0; i < ids; i++) {
        uint64_t begin = i ? ends[i - 1] : 0;
        hashes[i] = blake2b_8(find(in, "in/ids")->bytes + begin, ends[i] - begin);
        for (int64_t p = 0; p < PURPOSES; p++) keys[p * ids + i] = galaxy_key(seed, (uint32_t)p, hashes[i]);
    }
    PUT(out, "out/hashes", "U64", hashes, ids);
    PUT(out, "out/galaxy_keys", "U32", keys, L(PURPOSES), ids, L(2));

    const double *rates = doubles(in, "in/rates");
    int64_t rate_count = find(in, "in/rates")->shape[0];
    uint32_t *bits = room((size_t)(places * ids * 9), 4);
    real *numbers = room((size_t)(places * ids * 9), sizeof *numbers);
    unsigned char *masks = room((size_t)(rate_count * places * ids * 128), 1);
    for (int64_t i = 0; i < places * ids; i++) {
        Pair own = keys[DROPOUT * ids + i % ids];
        uint32_t at = (uint32_t)index[i / ids];
        for (uint32_t j = 0; j < 9; j++) {
            bits[9 * i + j] = word(own, at, j);
            numbers[9 * i + j] = (real)uniform(own, at, j);
        }
        for (int64_t r = 0; r < rate_count; r++)
            for (uint32_t unit = 0; unit < 128; unit++)
                masks[(r * places * ids + i) * 128 + unit] = (unsigned char)keeps(own, at, unit, rates[r]);
    }
    PUT(out, "out/bits", "U32", bits, places, ids, L(9));
    PUT(out, "out/uniforms", FLOATS, numbers, places, ids, L(9));
    PUT(out, "out/keep", "U8", masks, rate_count, places, ids, L(128));
    first_weights(in, out, seed);

    int64_t galaxies = whole(in, "in/galaxies"), batch = whole(in, "in/batch_size"), origin = whole(in, "in/origin");
    int64_t steps = find(in, "in/steps")->shape[0], per_epoch = galaxies / batch;
    const uint64_t *step = wholes(in, "in/steps");
    int64_t *order = room((size_t)galaxies, 8), *rows = room((size_t)(steps * batch), 8);
    epoch_order(seed, hashes, galaxies, (uint32_t)whole(in, "in/epoch"), order);
    PUT(out, "out/order", "I64", order, galaxies);
    for (int64_t i = 0; i < steps; i++) {
        int64_t now = (int64_t)step[i], epoch = origin + (now - origin) / per_epoch * per_epoch;
        epoch_order(seed, hashes, galaxies, (uint32_t)epoch, order);
        memcpy(rows + i * batch, order + (now - epoch) * batch, (size_t)batch * 8);
    }
    PUT(out, "out/rows", "I64", rows, steps, batch);
    views(in, out, seed, hashes, rows, steps, batch);
}

/* ---- 2. what the network is shown ---- */

typedef struct {
    const uint64_t *image; /* (y, x) */
    int64_t size;
    int edge;
} Picture;

static real pixel(const Picture *picture, real row, real column) {
    real last = (real)(picture->size - 1);
    int edge = MUTANT == 12 ? 1 : picture->edge;
    if (!edge && (row < 0 || row > last || column < 0 || column > last)) return 0;
    row = fmin(fmax(row, (real)0), last), column = fmin(fmax(column, (real)0), last);
    return (real)picture->image[(int64_t)row * picture->size + (int64_t)column];
}

static void see(const Picture *picture, const real *turn, const uint64_t *window, const real *light, real scale,
                int64_t n, real *seen) {
    real mean = 0, half = (real)(MUTANT == 2 ? 0.5 : 0);
    for (int64_t i = 0; i < n * n; i++) {
        real q0 = (real)((int64_t)window[0] + i / n * (int64_t)window[2] / n);
        real q1 = (real)((int64_t)window[1] + i % n * (int64_t)window[2] / n);
        real row = turn[0] * q0 + turn[1] * q1 + turn[2] + half, column = turn[3] * q0 + turn[4] * q1 + turn[5] + half;
        real top = floor(row), left = floor(column), a = row - top, b = column - left;
        seen[i] = (1 - a) * ((1 - b) * pixel(picture, top, left) + b * pixel(picture, top, left + 1)) +
                  a * ((1 - b) * pixel(picture, top + 1, left) + b * pixel(picture, top + 1, left + 1));
        seen[i] /= scale;
        mean += seen[i];
    }
    mean /= (real)(n * n);
    for (int64_t i = 0; i < n * n; i++) seen[i] = (seen[i] - mean) * light[1] + mean + light[0];
}

static void check_2(File *in, File *out) {
    const uint64_t *images = wholes(in, "in/images");
    int64_t count = find(in, "in/images")->shape[0], size = find(in, "in/images")->shape[1], n = whole(in, "in/size");
    real *seen = room((size_t)(count * n * n), sizeof *seen);
    for (int kind = 0; kind < 2; kind++) {
        const real *turn = reals(in, kind ? "in/nearest/turn" : "in/bilinear/turn");
        const real *light = reals(in, kind ? "in/nearest/light" : "in/bilinear/light");
        const uint64_t *window = wholes(in, kind ? "in/nearest/window" : "in/bilinear/window");
        for (int64_t i = 0; i < count; i++) {
            Picture picture = {images + i * size * size, size, !kind};
            see(&picture, turn + 6 * i, window + 3 * i, light + 2 * i, kind ? 1 : 255, n, seen + i * n * n);
        }
        PUT(out, kind ? "out/nearest" : "out/bilinear", FLOATS, seen, count, n, n);
    }
}

/* ---- 3. the network, one image at a time ---- */

typedef struct {
    int convolutions, pools;
    int64_t width[LAYERS], inputs[LAYERS], filters[LAYERS], last_width, flat, dense;
    int pooled[LAYERS];
    real *kernel[LAYERS + 2], *bias[LAYERS + 2];                 /* the convolutions', then hidden's, then answer's */
    real *before[LAYERS], *sum[LAYERS], *relu[LAYERS], *pool[LAYERS]; /* pool: what goes on, pooled or not */
    real *hidden, *units, *dropped;
} Network;

static void parameter_name(char *name, const Network *net, int layer, const char *prefix, const char *part) {
    if (layer < net->convolutions) spell(name, "%sconv%d/%s", prefix, layer, part);
    else spell(name, "%s%s/%s", prefix, layer == net->convolutions ? "hidden" : "answer", part);
}

static Network *network(File *weights, const char *prefix, File *in, const char *pooled_name, int64_t width) {
    Network *net = room(1, sizeof *net);
    const uint64_t *pooled = wholes(in, pooled_name);
    char name[NAME];
    net->convolutions = (int)find(in, pooled_name)->count;
    if (net->convolutions > LAYERS) stop("too many convolutions in", pooled_name);
    for (int l = 0; l < net->convolutions + 2; l++) {
        parameter_name(name, net, l, prefix, "kernel");
        net->kernel[l] = reals(weights, name);
        Array *kernel = find(weights, name);
        parameter_name(name, net, l, prefix, "bias");
        net->bias[l] = reals(weights, name);
        if (l >= net->convolutions) {
            if (l == net->convolutions) net->flat = kernel->shape[0], net->dense = kernel->shape[1];
            continue;
        }
        net->width[l] = width, net->inputs[l] = kernel->shape[2], net->filters[l] = kernel->shape[3];
        net->pooled[l] = (int)pooled[l];
        size_t size = (size_t)(width * width * net->filters[l]);
        if (!l) net->before[0] = room((size_t)(width * width), sizeof(real));
        else net->before[l] = net->pool[l - 1];
        net->sum[l] = room(size, sizeof(real)), net->relu[l] = room(size, sizeof(real));
        net->pool[l] = pooled[l] ? room(size / 4, sizeof(real)) : net->relu[l];
        if (pooled[l]) width /= 2;
    }
    net->last_width = width;
    net->hidden = room((size_t)net->dense, sizeof(real)), net->units = room((size_t)net->dense, sizeof(real));
    net->dropped = room((size_t)net->dense, sizeof(real));
    return net;
}

static void convolve(const real *in, int64_t width, int64_t inputs, int64_t filters, const real *kernel,
                     const real *bias, real *out) {
    for (int64_t y = 0; y < width; y++)
        for (int64_t x = 0; x < width; x++) {
            real *to = out + (y * width + x) * filters;
            for (int64_t o = 0; o < filters; o++) to[o] = bias[o];
            for (int64_t r = 0; r < 3; r++)
                for (int64_t c = 0; c < 3; c++) {
                    int64_t row = y + r - 1, column = x + c - 1;
                    if (row < 0 || row >= width || column < 0 || column >= width) continue;
                    const real *from = in + (row * width + column) * inputs;
                    const real *k = kernel + (MUTANT == 1 ? 3 * c + r : 3 * r + c) * inputs * filters;
                    for (int64_t i = 0; i < inputs; i++)
                        for (int64_t o = 0; o < filters; o++) to[o] += from[i] * k[i * filters + o];
                }
        }
}

/* Where the largest of a square is, the first in row-major order. */
static int64_t largest(const real *in, int64_t width, int64_t channels, int64_t y, int64_t x, int64_t c) {
    int64_t best = (2 * y * width + 2 * x) * channels + c;
    for (int64_t i = 1; i < 4; i++) {
        int64_t at = ((2 * y + i / 2) * width + 2 * x + i % 2) * channels + c;
        if (MUTANT == 16 ? in[at] >= in[best] : in[at] > in[best]) best = at;
    }
    return best;
}

static void features(Network *net, const real *image) {
    memcpy(net->before[0], image, (size_t)(net->width[0] * net->width[0]) * sizeof(real));
    int last = net->convolutions - 1;
    for (int l = 0; l <= last; l++) {
        int64_t width = net->width[l], channels = net->filters[l];
        convolve(net->before[l], width, net->inputs[l], channels, net->kernel[l], net->bias[l], net->sum[l]);
        for (int64_t i = 0; i < width * width * channels; i++) net->relu[l][i] = fmax(net->sum[l][i], (real)0);
        for (int64_t i = 0; net->pooled[l] && i < width * width * channels / 4; i++) {
            int64_t y = i / channels / (width / 2), x = i / channels % (width / 2);
            net->pool[l][i] = net->relu[l][largest(net->relu[l], width, channels, y, x, i % channels)];
        }
    }
    const real *kernel = net->kernel[last + 1];
    int64_t channels = net->filters[last], places = net->last_width * net->last_width;
    for (int64_t u = 0; u < net->dense; u++) net->hidden[u] = net->bias[last + 1][u];
    for (int64_t f = 0; f < net->flat; f++) {
        real value = net->pool[last][MUTANT == 7 ? f % places * channels + f / places : f];
        for (int64_t u = 0; u < net->dense; u++) net->hidden[u] += value * kernel[f * net->dense + u];
    }
    for (int64_t u = 0; u < net->dense; u++) net->units[u] = fmax(net->hidden[u], (real)0);
}

static real answer(Network *net, const unsigned char *kept, real rate) {
    int last = net->convolutions + 1;
    real two[2] = {net->bias[last][0], net->bias[last][1]};
    for (int64_t u = 0; u < net->dense; u++) {
        net->dropped[u] = kept[u] ? net->units[u] / (MUTANT == 10 ? 1 : 1 - rate) : 0;
        for (int64_t t = 0; t < 2; t++) two[t] += net->dropped[u] * net->kernel[last][2 * u + t];
    }
    return two[1] - two[0];
}

static void keep_layer(real **all, int64_t image, int64_t count, const real *values) {
    memcpy(*all + image * count, values, (size_t)count * sizeof(real));
}

static void check_3(File *in, File *out, const char *kit) {
    Array *shape = find(in, "in/x");
    int64_t images = shape->shape[0], width = shape->shape[1];
    const real *x = reals(in, "in/x");
    const unsigned char *kept = find(in, "in/keep")->bytes;
    Network *net = network(load(kit, "weights"), "", in, "in/pooled", width);
    real *sums[LAYERS], *pools[LAYERS], *hidden = room((size_t)(images * net->dense), sizeof(real));
    real *units = room((size_t)(images * net->dense), sizeof(real)), *logits = room((size_t)images, sizeof(real));
    int64_t sizes[LAYERS];
    for (int l = 0; l < net->convolutions; l++) {
        sizes[l] = net->width[l] * net->width[l] * net->filters[l];
        sums[l] = room((size_t)(images * sizes[l]), sizeof(real));
        pools[l] = room((size_t)(images * sizes[l]), sizeof(real));
    }
    for (int64_t i = 0; i < images; i++) {
        features(net, x + i * width * width);
        logits[i] = answer(net, kept + i * net->dense, (real)number(in, "in/rate"));
        for (int l = 0; l < net->convolutions; l++) {
            keep_layer(&sums[l], i, sizes[l], net->sum[l]);
            if (net->pooled[l]) keep_layer(&pools[l], i, sizes[l] / 4, net->pool[l]);
        }
        keep_layer(&hidden, i, net->dense, net->hidden);
        keep_layer(&units, i, net->dense, net->units);
    }
    char name[NAME];
    for (int l = 0, pool = 0; l < net->convolutions; l++) {
        int64_t w = net->width[l];
        spell(name, "out/conv%d", l);
        PUT(out, name, FLOATS, sums[l], images, w, w, net->filters[l]);
        spell(name, "out/pool%d", pool);
        if (net->pooled[l]) PUT(out, name, FLOATS, pools[l], images, w / 2, w / 2, net->filters[l]);
        pool += net->pooled[l];
    }
    PUT(out, "out/hidden", FLOATS, hidden, images, net->dense);
    PUT(out, "out/units", FLOATS, units, images, net->dense);
    PUT(out, "out/logits", FLOATS, logits, images);
}

/* ---- 4. the likelihood ---- */

static real soft(real z) {
    return MUTANT == 8 ? log(1 + exp(z)) : fmax(z, (real)0) + log1p(exp(-fabs(z)));
}

static real nll(real logit, real yes, real total) {
    real no = total - yes, sign = MUTANT == 5 ? -1 : 1;
    return (yes > 0 ? yes * soft(-sign * logit) : 0) + (no > 0 ? no * soft(sign * logit) : 0);
}

enum { MULTINOMIAL, EXP, SIGMOID };

typedef struct {
    real probability, alpha, slope; /* of the softmax; the concentration, and its derivative by the logit */
} Answer;

static void outlook(int form, const real *logits, int64_t answers, Answer *answer) {
    real sum = 0;
    for (int64_t i = 0; i < answers; i++) sum += answer[i].probability = exp(logits[i]);
    for (int64_t i = 0; i < answers; i++) {
        real up = 1 / (1 + exp(-logits[i])), down = 1 / (1 + exp(logits[i]));
        answer[i].alpha = form == SIGMOID ? 1 + 100 * up : exp(logits[i]);
        answer[i].slope = form == SIGMOID ? 100 * up * down : answer[i].alpha;
        answer[i].probability /= sum;
    }
}

/* 1 / from + 1 / (from + 1) + ..., so many of them. */
static real reciprocals(real from, uint64_t count) {
    real sum = 0;
    for (uint64_t rank = 0; rank < count; rank++) sum += 1 / (from + (real)rank);
    return sum;
}

/* -ln L by the formula as it stands, of which single precision keeps few digits. */
static real by_gammas(const Answer *answer, const uint64_t *votes, int64_t answers) {
    real whole = 0, total = 0, lost = 0;
    for (int64_t i = 0; i < answers; i++) {
        lost += lgamma(answer[i].alpha) - lgamma(answer[i].alpha + (real)votes[i]);
        whole += answer[i].alpha, total += (real)votes[i];
    }
    return lost + lgamma(whole + total) - lgamma(whole);
}

/* -ln L of one question, and its gradient. The urn: votes come one after the other, answer by answer. */
static real question_nll(int form, const real *logits, const uint64_t *votes, int64_t answers, real *slope) {
    Answer *answer = room((size_t)answers, sizeof *answer);
    outlook(form, logits, answers, answer);
    real whole = 0, lost = 0;
    uint64_t before = 0;
    for (int64_t i = 0; i < answers; i++) whole += answer[i].alpha;
    for (int64_t i = 0; i < answers; before += votes[i++])
        for (uint64_t rank = 0; rank < votes[i]; rank++) {
            real own = MUTANT == 18 ? 0 : (real)rank, all = MUTANT == 18 ? 0 : (real)(before + rank);
            lost -= log(form == MULTINOMIAL ? answer[i].probability : (answer[i].alpha + own) / (whole + all));
        }
    if (MUTANT == 20 && form != MULTINOMIAL) lost = by_gammas(answer, votes, answers);
    for (int64_t i = 0; i < answers; i++)
        slope[i] = form == MULTINOMIAL ? (real)before * answer[i].probability - (real)votes[i]
                                       : answer[i].slope * (reciprocals(whole, before) - reciprocals(answer[i].alpha, votes[i]));
    free(answer);
    return lost;
}

static void two_questions(File *in, File *out) {
    static const char *names[] = {"multinomial", "dirichlet_multinomial/exp", "dirichlet_multinomial/sigmoid"};
    const real *logits = reals(in, "in/tree/logits");
    const uint64_t *votes = wholes(in, "in/tree/votes"), *question = wholes(in, "in/tree/question");
    int64_t cases = find(in, "in/tree/votes")->shape[0], answers = find(in, "in/tree/votes")->shape[1];
    for (int form = MULTINOMIAL; form <= SIGMOID; form++) {
        real *lost = room((size_t)cases, sizeof *lost), *slope = room((size_t)(cases * answers), sizeof *slope);
        for (int64_t first = 0, next; first < answers; first = next) {
            for (next = first; next < answers && (MUTANT == 19 || question[next] == question[first]); next++) {}
            for (int64_t c = 0, at = first; c < cases; c++, at += answers)
                lost[c] += question_nll(form, logits + at, votes + at, next - first, slope + at);
        }
        char name[NAME];
        spell(name, "out/%s/nll", names[form]);
        PUT(out, name, FLOATS, lost, cases);
        spell(name, "out/%s/slope", names[form]);
        PUT(out, name, FLOATS, slope, cases, answers);
    }
}

static void check_4(File *in, File *out) {
    const real *logits = reals(in, "in/logits"), *yes = reals(in, "in/yes"), *total = reals(in, "in/total");
    int64_t count = find(in, "in/logits")->shape[0];
    real *result = room((size_t)count, sizeof *result);
    for (int64_t i = 0; i < count; i++) result[i] = nll(logits[i], yes[i], total[i]);
    PUT(out, "out/nll", FLOATS, result, count);
    two_questions(in, out);
}

/* ---- 5. gradients ---- */

typedef struct {
    real *kernel[LAYERS + 2], *bias[LAYERS + 2], *back[LAYERS], *spread[LAYERS];
    size_t kernels[LAYERS + 2], biases[LAYERS + 2];
} Slopes;

static Slopes *slopes(const Network *net) {
    Slopes *slope = room(1, sizeof *slope);
    int last = net->convolutions - 1;
    for (int l = 0; l <= last + 2; l++) {
        int64_t rows = l <= last ? 9 * net->inputs[l] : l == last + 1 ? net->flat : net->dense;
        int64_t columns = l <= last ? net->filters[l] : l == last + 1 ? net->dense : 2;
        slope->kernels[l] = (size_t)(rows * columns), slope->biases[l] = (size_t)columns;
        slope->kernel[l] = room(slope->kernels[l], sizeof(real));
        slope->bias[l] = room(slope->biases[l], sizeof(real));
        if (l > last) continue;
        size_t size = (size_t)(net->width[l] * net->width[l] * net->filters[l]);
        slope->back[l] = room(size, sizeof(real)); /* of what layer l hands on */
        slope->spread[l] = room(size, sizeof(real)); /* of its sum */
    }
    return slope;
}

static void clear(Slopes *slope, int layers) {
    for (int l = 0; l < layers; l++) {
        memset(slope->kernel[l], 0, slope->kernels[l] * sizeof(real));
        memset(slope->bias[l], 0, slope->biases[l] * sizeof(real));
    }
}

static void unpool(const Network *net, int l, const real *back, real *spread) {
    int64_t width = net->width[l], channels = net->filters[l], size = width * width * channels;
    if (!net->pooled[l]) memcpy(spread, back, (size_t)size * sizeof(real));
    else {
        memset(spread, 0, (size_t)size * sizeof(real));
        for (int64_t i = 0; i < size / 4; i++) {
            int64_t y = i / channels / (width / 2), x = i / channels % (width / 2);
            spread[largest(net->relu[l], width, channels, y, x, i % channels)] = back[i];
        }
    }
    for (int64_t i = 0; i < size; i++) spread[i] = net->sum[l][i] > 0 ? spread[i] : 0;
}

static void unconvolve(const Network *net, int l, Slopes *slope) {
    int64_t width = net->width[l], inputs = net->inputs[l], filters = net->filters[l];
    real *below = l ? slope->back[l - 1] : NULL;
    if (below) memset(below, 0, (size_t)(width * width * inputs) * sizeof(real));
    for (int64_t y = 0; y < width; y++)
        for (int64_t x = 0; x < width; x++) {
            const real *d = slope->spread[l] + (y * width + x) * filters;
            for (int64_t o = 0; o < filters; o++) slope->bias[l][o] += d[o];
            for (int64_t tap = 0; tap < 9; tap++) {
                int64_t row = y + tap / 3 - 1, column = x + tap % 3 - 1;
                if (row < 0 || row >= width || column < 0 || column >= width) continue;
                int64_t from = (row * width + column) * inputs;
                for (int64_t i = 0; i < inputs; i++) {
                    const real *k = net->kernel[l] + (tap * inputs + i) * filters;
                    real *to = slope->kernel[l] + (tap * inputs + i) * filters, value = net->before[l][from + i], sum = 0;
                    for (int64_t o = 0; o < filters; o++) to[o] += value * d[o];
                    if (!below) continue;
                    for (int64_t o = 0; o < filters; o++) sum += k[o] * d[o];
                    below[from + i] += sum;
                }
            }
        }
}

/* Adds one image's share to the slopes; gives its share of the loss. */
static real learn(Network *net, Slopes *slope, const real *image, const unsigned char *kept, real rate, real yes,
                  real total, real batch) {
    features(net, image);
    int last = net->convolutions - 1, hidden = last + 1, end = last + 2;
    real logit = answer(net, kept, rate), d = (total / (1 + exp(-logit)) - yes) / batch;
    real *back = slope->back[last];
    memset(back, 0, (size_t)net->flat * sizeof(real));
    slope->bias[end][0] -= d, slope->bias[end][1] += d;
    for (int64_t u = 0; u < net->dense; u++) {
        slope->kernel[end][2 * u] -= net->dropped[u] * d, slope->kernel[end][2 * u + 1] += net->dropped[u] * d;
        if (!kept[u] || !(net->hidden[u] > 0)) continue;
        real unit = d * (net->kernel[end][2 * u + 1] - net->kernel[end][2 * u]) / (1 - rate);
        slope->bias[hidden][u] += unit;
        for (int64_t f = 0; f < net->flat; f++) {
            slope->kernel[hidden][f * net->dense + u] += net->pool[last][f] * unit;
            back[f] += net->kernel[hidden][f * net->dense + u] * unit;
        }
    }
    for (int l = last; l >= 0; l--) {
        unpool(net, l, slope->back[l], slope->spread[l]);
        unconvolve(net, l, slope);
    }
    return nll(logit, yes, total) / batch;
}

static void put_parameters(File *out, const Network *net, const char *prefix, real *const *kernels, real *const *biases) {
    char name[NAME];
    for (int l = 0; l < net->convolutions + 2; l++) {
        int64_t dense = net->dense, two = l > net->convolutions ? 2 : dense;
        parameter_name(name, net, l, prefix, "kernel");
        if (l < net->convolutions) PUT(out, name, FLOATS, kernels[l], L(3), L(3), net->inputs[l], net->filters[l]);
        else PUT(out, name, FLOATS, kernels[l], l > net->convolutions ? dense : net->flat, two);
        parameter_name(name, net, l, prefix, "bias");
        PUT(out, name, FLOATS, biases[l], l < net->convolutions ? net->filters[l] : two);
    }
}

static void check_5(File *in, File *out, const char *kit) {
    Array *shape = find(in, "in/x");
    int64_t images = shape->shape[0], width = shape->shape[1];
    const real *x = reals(in, "in/x"), *yes = reals(in, "in/yes"), *total = reals(in, "in/total");
    real rate = (real)number(in, "in/rate");
    for (int tied = 0; tied < 2; tied++) {
        Network *net = tied ? network(in, "in/tied/weights/", in, "in/pooled", width)
                            : network(load(kit, "weights"), "", in, "in/pooled", width);
        const unsigned char *kept = find(in, tied ? "in/tied/keep" : "in/keep")->bytes;
        Slopes *slope = slopes(net);
        real loss = 0;
        for (int64_t i = 0; i < images; i++)
            loss += learn(net, slope, x + i * width * width, kept + i * net->dense, rate, yes[i], total[i], (real)images);
        if (!tied) PUT(out, "out/loss", FLOATS, &loss, L(1));
        put_parameters(out, net, tied ? "out/tied/" : "out/slope/", slope->kernel, slope->bias);
    }
}

/* ---- 6. Adam ---- */

typedef struct {
    double rate, beta1, beta2, epsilon;
    int hat;
} Adam;

static void adam(const Adam *spec, int64_t step, size_t count, real *weight, real *first, real *second, const real *g) {
    double double1 = 1 - pow(spec->beta1, (double)(step + 1)), double2 = 1 - pow(spec->beta2, (double)(step + 1));
    real c1 = (real)double1, c2 = (real)double2, rate = (real)spec->rate, epsilon = (real)spec->epsilon;
    real old1 = (real)spec->beta1, old2 = (real)spec->beta2;
    real new1 = (real)(1 - spec->beta1), new2 = (real)(1 - spec->beta2);
    for (size_t i = 0; i < count; i++) {
        first[i] = old1 * first[i] + new1 * g[i];
        second[i] = old2 * second[i] + new2 * g[i] * g[i];
        if (spec->hat) weight[i] -= rate * (sqrt(c2) / c1) * first[i] / (sqrt(second[i]) + epsilon);
        else weight[i] -= rate * (first[i] / c1) / (sqrt(second[i] / c2) + epsilon);
    }
}

static void many_steps(File *in, File *out, const Adam *spec) {
    Array *images = find(in, "in/many/images"), *rows = find(in, "in/many/rows");
    int64_t size = images->shape[1], steps = rows->shape[0], batch = rows->shape[1], width = whole(in, "in/many/size");
    const uint64_t *pixels = wholes(in, "in/many/images"), *row = wholes(in, "in/many/rows");
    const uint64_t *window = wholes(in, "in/many/window"), *keys = wholes(in, "in/many/keys");
    const uint64_t *step = wholes(in, "in/many/steps");
    const real *turn = reals(in, "in/many/turn"), *light = reals(in, "in/many/light");
    const real *yes = reals(in, "in/many/yes"), *total = reals(in, "in/many/total");
    double rate = number(in, "in/many/rate");
    Network *net = network(in, "in/many/weights/", in, "in/many/pooled", width);
    Slopes *slope = slopes(net), *first = slopes(net), *second = slopes(net);
    real *losses = room((size_t)steps, sizeof(real)), *x = room((size_t)(width * width), sizeof(real));
    unsigned char *kept = room((size_t)net->dense, 1);
    int layers = net->convolutions + 2;
    for (int64_t s = 0; s < steps; s++) {
        clear(slope, layers);
        for (int64_t i = s * batch; i < (s + 1) * batch; i++) {
            Picture picture = {pixels + (int64_t)row[i] * size * size, size, 1};
            Pair key = {(uint32_t)keys[2 * i], (uint32_t)keys[2 * i + 1]};
            see(&picture, turn + 6 * i, window + 3 * i, light + 2 * i, 255, width, x);
            for (uint32_t u = 0; u < net->dense; u++) kept[u] = (unsigned char)keeps(key, (uint32_t)step[s], u, rate);
            losses[s] += learn(net, slope, x, kept, (real)rate, yes[i], total[i], (real)batch);
        }
        for (int l = 0; l < layers; l++) {
            adam(spec, (int64_t)step[s], slope->kernels[l], net->kernel[l], first->kernel[l], second->kernel[l],
                 slope->kernel[l]);
            adam(spec, (int64_t)step[s], slope->biases[l], net->bias[l], first->bias[l], second->bias[l], slope->bias[l]);
        }
    }
    PUT(out, "out/many/losses", FLOATS, losses, steps);
    put_parameters(out, net, "out/many/weight/", net->kernel, net->bias);
    put_parameters(out, net, "out/many/first/", first->kernel, first->bias);
    put_parameters(out, net, "out/many/second/", second->kernel, second->bias);
}

static void check_6(File *in, File *out) {
    Adam spec = {number(in, "in/learning_rate"), number(in, "in/beta1"), number(in, "in/beta2"),
                 number(in, "in/epsilon"), 0};
    static const char *parts[3] = {"weight", "first", "second"};
    const uint64_t *step = wholes(in, "in/one/step");
    const real *slope = reals(in, "in/one/slope");
    int64_t cases = find(in, "in/one/weight")->shape[0], count = find(in, "in/one/weight")->shape[1];
    char name[NAME];
    for (int hat = 0; hat < 2; hat++) {
        real *state[3];
        spec.hat = MUTANT == 17 ? 0 : hat;
        for (int p = 0; p < 3; p++) {
            spell(name, "in/one/%s", parts[p]);
            state[p] = reals(in, name);
        }
        for (int64_t i = 0; i < cases; i++)
            adam(&spec, (int64_t)step[i], (size_t)count, state[0] + i * count, state[1] + i * count, state[2] + i * count,
                 slope + i * count);
        for (int p = 0; p < 3; p++) {
            spell(name, "out/one/%s/%s", hat ? "hat" : "textbook", parts[p]);
            PUT(out, name, FLOATS, state[p], cases, count);
        }
    }
    spec.hat = 0;
    if (sizeof(real) == 8) many_steps(in, out, &spec);
}

/* ---- 8. posterior samples ---- */

static void check_8(File *in, File *out, const char *kit) {
    Array *shape = find(in, "in/images");
    int64_t images = shape->shape[0], size = shape->shape[1], n = whole(in, "in/size");
    int64_t samples = whole(in, "in/samples"), begin = whole(in, "in/first");
    const uint64_t *pixels = wholes(in, "in/images"), *window = wholes(in, "in/window"), *keys = wholes(in, "in/keys");
    const real *turn = reals(in, "in/turn"), *light = reals(in, "in/light");
    double rate = number(in, "in/rate");
    Network *net = network(load(kit, "weights"), "", in, "in/pooled", n);
    real *x = room((size_t)(n * n), sizeof(real)), *rho = room((size_t)(images * samples), sizeof(real));
    unsigned char *kept = room((size_t)net->dense, 1);
    for (int64_t i = 0; i < images; i++) {
        Picture picture = {pixels + i * size * size, size, 1};
        see(&picture, turn + 6 * i, window + 3 * i, light + 2 * i, 255, n, x);
        features(net, x);
        for (int64_t s = 0; s < samples; s++) {
            Pair key = {(uint32_t)keys[2 * i], (uint32_t)keys[2 * i + 1]};
            uint32_t index = (uint32_t)(MUTANT == 4 ? begin : begin + s);
            for (uint32_t u = 0; u < net->dense; u++) kept[u] = (unsigned char)keeps(key, index, u, rate);
            rho[i * samples + s] = 1 / (1 + exp(-answer(net, kept, (real)rate)));
        }
    }
    PUT(out, "out/rho", FLOATS, rho, images, samples);
}

/* ---- 9. acquisition ---- */

static real times_log(int64_t count, real log_chance) {
    return count ? (real)count * log_chance : 0;
}

/* Mutual information, and the entropy of the mixture. */
static real scores(const real *rho, int64_t samples, int64_t votes, real *entropy) {
    real information = 0;
    *entropy = 0;
    for (int64_t k = 0; k <= votes; k++) {
        double ways = lgamma((double)votes + 1) - lgamma((double)k + 1) - lgamma((double)(votes - k) + 1);
        real mixed = 0;
        for (int pass = 0; pass < 2; pass++) {
            real log_mixed = pass ? log(mixed) : 0;
            if (pass && !(mixed > 0)) continue;
            if (pass) *entropy -= mixed * log_mixed;
            for (int64_t s = 0; s < samples; s++) {
                real each = (MUTANT == 6 ? 0 : (real)ways) + times_log(k, log(rho[s])) + times_log(votes - k, log1p(-rho[s]));
                real chance = exp(each);
                if (!pass) mixed += chance / (real)samples;
                else if (chance > 0) information += chance * (each - (MUTANT == 15 ? 0 : log_mixed)) / (real)samples;
            }
        }
    }
    return information;
}

static void top(File *out, const char *name, const real *score, int64_t count, int64_t wanted) {
    int64_t *chosen = room((size_t)wanted, 8), found = 0;
    for (int64_t i = 0; i < count && found < wanted; i++) {
        int64_t better = 0;
        for (int64_t j = 0; j < count; j++) better += score[j] > score[i] || (score[j] == score[i] && j < i);
        if (MUTANT == 14 ? better >= count - wanted : better < wanted) chosen[found++] = i;
    }
    PUT(out, name, "I64", chosen, wanted);
}

static void check_9(File *in, File *out) {
    const real *rho = reals(in, "in/rho");
    const uint64_t *each = wholes(in, "in/votes_each"), *keys = wholes(in, "in/keys");
    int64_t count = find(in, "in/rho")->shape[0], samples = find(in, "in/rho")->shape[1], votes = whole(in, "in/votes");
    int64_t wanted = whole(in, "in/wanted");
    real *value[4], aside;
    for (int i = 0; i < 4; i++) value[i] = room((size_t)count, sizeof(real));
    for (int64_t i = 0; i < count; i++) {
        value[0][i] = scores(rho + i * samples, samples, votes, &value[1][i]);
        value[3][i] = scores(rho + i * samples, samples, (int64_t)each[i], &aside);
        Pair key = {(uint32_t)keys[2 * i], (uint32_t)keys[2 * i + 1]};
        value[2][i] = (real)uniform(key, (uint32_t)whole(in, "in/index"), 0);
    }
    PUT(out, "out/mutual_information", FLOATS, value[0], count);
    PUT(out, "out/mutual_information_each", FLOATS, value[3], count);
    PUT(out, "out/entropy", FLOATS, value[1], count);
    PUT(out, "out/random", FLOATS, value[2], count);
    top(out, "out/top_mutual_information", value[0], count, wanted);
    top(out, "out/top_entropy", value[1], count, wanted);
    top(out, "out/top_random", value[2], count, wanted);
}

int main(int count, char **words) {
    static const char *checks[] = {"1_keys", "2_warp", "3_layers", "4_likelihood",
                                  "5_gradient", "6_adam", "8_posterior", "9_acquisition"};
    if (count < 3) stop("usage:", "port KIT ANSWERS [CHECK ...]");
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        int asked = count == 3;
        for (int w = 3; w < count; w++) asked |= !strcmp(words[w], checks[i]);
        if (!asked) continue;
        File *in = load(words[1], checks[i]), *out = room(1, sizeof *out);
        switch (checks[i][0]) {
            case '1': check_1(in, out); break;
            case '2': check_2(in, out); break;
            case '3': check_3(in, out, words[1]); break;
            case '4': check_4(in, out); break;
            case '5': check_5(in, out, words[1]); break;
            case '6': check_6(in, out); break;
            case '8': check_8(in, out, words[1]); break;
            default: check_9(in, out);
        }
        save(out, words[2], checks[i]);
    }
    return 0;
}
