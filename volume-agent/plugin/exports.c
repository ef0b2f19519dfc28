/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/plugin/exports.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "volume-agent/device/open.h"

#define NAME_PREFIX "migration-vol-"

struct Export {
    Export *next;
    char volume_id[DROVER_VOLUME_ID_MAX + 1];
    char token[DROVER_TOKEN_MAX + 1];
    char *path;
    uint64_t generation;
    uint64_t size;
    int fd;
    bool block_device;
    /* under the lock */
    bool revoked;
    bool busy; /* its device is being opened or closed, without the lock: that may take long, and others go on
                  meanwhile */
    unsigned in_flight;
    unsigned references;        /* the table's own, one a connection, one whoever waits for it to drain */
    pthread_mutex_t flush_lock; /* taken without the other one */
    atomic_bool poisoned;
    /* counters */
    atomic_uint_fast64_t written, zeroed, read, requests, flushes;
};

/* The highest generation that a volume ever had here: an older one can never come back. */
typedef struct Floor {
    struct Floor *next;
    char volume_id[DROVER_VOLUME_ID_MAX + 1];
    uint64_t generation;
} Floor;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t drained = PTHREAD_COND_INITIALIZER;
static Export *table;
static Floor *floors;

static void unref_locked(Export *export)
{
    if (--export->references > 0)
        return;
    if (export->fd >= 0)
        close(export->fd);
    explicit_bzero(export->token, sizeof export->token);
    pthread_mutex_destroy(&export->flush_lock);
    free(export->path);
    free(export);
}

static Export *find_locked(const char *volume_id)
{
    Export *e = table;
    while (e && strcmp(e->volume_id, volume_id) != 0)
        e = e->next;
    return e;
}

static Floor *floor_locked(const char *volume_id)
{
    Floor *f = floors;
    while (f && strcmp(f->volume_id, volume_id) != 0)
        f = f->next;
    if (!f) {
        f = calloc(1, sizeof *f);
        if (!f)
            abort();
        snprintf(f->volume_id, sizeof f->volume_id, "%s", volume_id);
        f->next = floors;
        floors = f;
    }
    return f;
}

static void take_off_table_locked(Export *export)
{
    Export **p = &table;
    while (*p != export)
        p = &(*p)->next;
    *p = export->next;
    unref_locked(export);
}

/* Cuts EXPORT off: no new request is admitted; waits for those in flight, closes the device, takes it off the
 * table. Several may wait for the same one; the first to wake does it, and all wait until it is done. */
static void revoke_locked(Export *export)
{
    export->revoked = true;
    export->references++;
    while (export->in_flight > 0 || export->busy)
        pthread_cond_wait(&drained, &lock);
    if (export->fd >= 0) {
        /* Connections keep the struct alive, never the device: it may be detached as soon as we return. The
         * last close of a device writes back what is dirty, so it happens without the lock. */
        int fd = export->fd;
        export->fd = -1;
        export->busy = true;
        pthread_mutex_unlock(&lock);
        close(fd);
        pthread_mutex_lock(&lock);
        export->busy = false;
        take_off_table_locked(export);
        pthread_cond_broadcast(&drained);
    }
    unref_locked(export);
}

/* Waits until no generation of VOLUME_ID is open that is older than GENERATION. True when GENERATION may be
 * opened now; else *ERR says why not, 0: it is open already. */
static bool make_way_locked(const char *volume_id, uint64_t generation, const char *token, const char *path,
                            int *err, char *why, size_t why_len)
{
    const Floor *floor = floor_locked(volume_id);
    /* While it waits others may open and close: all is looked at again. */
    for (;;) {
        Export *old = find_locked(volume_id);
        *err = 0;
        if (old && old->busy) {
            pthread_cond_wait(&drained, &lock);
            continue;
        }
        if (old && !old->revoked && old->generation == generation) {
            if (strcmp(old->token, token) != 0 || strcmp(old->path, path) != 0) {
                snprintf(why, why_len, "generation %" PRIu64 " is open with another token or device",
                         generation);
                *err = EEXIST;
            }
            return false;
        }
        if (generation <= floor->generation) {
            snprintf(why, why_len, "generation %" PRIu64 " is over, the newest was %" PRIu64, generation,
                     floor->generation);
            *err = ESTALE;
            return false;
        }
        if (!old)
            return true;
        revoke_locked(old);
    }
}

/* Puts an export on the table that nobody gets yet, so that others wait for the outcome. */
static Export *reserve_locked(const char *volume_id, uint64_t generation, const char *token, const char *path)
{
    Export *new = calloc(1, sizeof *new);
    if (!new || !(new->path = strdup(path)))
        abort();
    snprintf(new->volume_id, sizeof new->volume_id, "%s", volume_id);
    snprintf(new->token, sizeof new->token, "%s", token);
    pthread_mutex_init(&new->flush_lock, NULL);
    new->generation = generation;
    new->fd = -1;
    new->busy = true;
    new->references = 1;
    new->next = table;
    table = new;
    return new;
}

/* Opens the device of a reserved export: 0, or an errno with WHY. Without the lock. */
static int fill(Export *new, uint64_t minimum_size, char *why, size_t why_len)
{
    int fd = -1;
    int err = drover_device_open(new->path, new->volume_id, &fd, &new->block_device, &new->size);
    if (err) {
        snprintf(why, why_len, "%s: %s", new->path, err == ENXIO ? "this disk has another serial" : strerror(err));
        return err;
    }
    if (new->size < minimum_size) {
        snprintf(why, why_len, "%s has %" PRIu64 " bytes, %" PRIu64 " are needed", new->path, new->size,
                 minimum_size);
        close(fd);
        return ENOSPC;
    }
    new->fd = fd;
    return 0;
}

int exports_open(const char *volume_id, uint64_t generation, const char *token, const char *path,
                 uint64_t minimum_size, char *why, size_t why_len)
{
    int err = 0;
    pthread_mutex_lock(&lock);
    if (make_way_locked(volume_id, generation, token, path, &err, why, why_len)) {
        Export *new = reserve_locked(volume_id, generation, token, path);
        pthread_mutex_unlock(&lock);
        err = fill(new, minimum_size, why, why_len);
        pthread_mutex_lock(&lock);
        new->busy = false;
        if (err)
            take_off_table_locked(new);
        else
            floor_locked(volume_id)->generation = generation;
        pthread_cond_broadcast(&drained);
    }
    pthread_mutex_unlock(&lock);
    return err;
}

void exports_close(const char *volume_id, uint64_t generation)
{
    pthread_mutex_lock(&lock);
    for (Export *e; (e = find_locked(volume_id)) && e->generation <= generation;)
        revoke_locked(e);
    Floor *floor = floor_locked(volume_id);
    if (floor->generation < generation)
        floor->generation = generation;
    pthread_mutex_unlock(&lock);
}

/* Takes time that depends on the length only. */
static bool same_secret(const char *a, const char *b)
{
    size_t len = strlen(a);
    if (len == 0 || len != strlen(b))
        return false;
    unsigned char difference = 0;
    for (size_t i = 0; i < len; i++)
        difference |= (unsigned char)(a[i] ^ b[i]);
    return difference == 0;
}

/* Splits "migration-vol-<volume_id>@<generation>.<token>". */
static bool parse_name(const char *name, char *volume_id, uint64_t *generation, const char **token)
{
    if (strncmp(name, NAME_PREFIX, strlen(NAME_PREFIX)) != 0)
        return false;
    name += strlen(NAME_PREFIX);
    const char *at = strchr(name, '@');
    if (!at || at == name || (size_t)(at - name) > DROVER_VOLUME_ID_MAX)
        return false;
    memcpy(volume_id, name, (size_t)(at - name));
    volume_id[at - name] = '\0';
    if (at[1] < '1' || at[1] > '9')
        return false;
    char *end = NULL;
    errno = 0;
    *generation = strtoull(at + 1, &end, 10);
    if (errno || *end != '.')
        return false;
    *token = end + 1;
    return strlen(*token) <= DROVER_TOKEN_MAX;
}

Export *exports_acquire(const char *name)
{
    char volume_id[DROVER_VOLUME_ID_MAX + 1];
    uint64_t generation = 0;
    const char *token = NULL;
    if (!parse_name(name, volume_id, &generation, &token))
        return NULL;
    pthread_mutex_lock(&lock);
    Export *e = find_locked(volume_id);
    if (e && (e->revoked || e->busy || e->generation != generation || !same_secret(e->token, token)))
        e = NULL;
    if (e)
        e->references++;
    pthread_mutex_unlock(&lock);
    return e;
}

void exports_release(Export *export)
{
    pthread_mutex_lock(&lock);
    unref_locked(export);
    pthread_mutex_unlock(&lock);
}

bool exports_admit(Export *export)
{
    pthread_mutex_lock(&lock);
    bool admitted = !export->revoked;
    if (admitted)
        export->in_flight++;
    pthread_mutex_unlock(&lock);
    return admitted;
}

void exports_done(Export *export)
{
    pthread_mutex_lock(&lock);
    if (--export->in_flight == 0 && export->revoked)
        pthread_cond_broadcast(&drained);
    pthread_mutex_unlock(&lock);
}

int export_fd(const Export *export)
{
    return export->fd;
}

uint64_t export_size(const Export *export)
{
    return export->size;
}

bool export_is_block_device(const Export *export)
{
    return export->block_device;
}

int export_flush(Export *export)
{
    /* The kernel tells each write-back error once per open file, and all connections share this one: whoever
     * flushes beside the one who is told would hear that all is well. */
    pthread_mutex_lock(&export->flush_lock);
    int err = atomic_load(&export->poisoned) ? EIO : 0;
    if (!err && fdatasync(export->fd) < 0) {
        err = errno;
        atomic_store(&export->poisoned, true);
    }
    pthread_mutex_unlock(&export->flush_lock);
    return err;
}

void export_count(Export *export, ExportRequest kind, uint64_t bytes)
{
    atomic_fetch_add(&export->requests, 1);
    if (kind == EXPORT_READ)
        atomic_fetch_add(&export->read, bytes);
    else if (kind == EXPORT_WRITE)
        atomic_fetch_add(&export->written, bytes);
    else if (kind == EXPORT_ZERO)
        atomic_fetch_add(&export->zeroed, bytes);
    else if (kind == EXPORT_FLUSH)
        atomic_fetch_add(&export->flushes, 1);
}

void exports_print(FILE *out)
{
    pthread_mutex_lock(&lock);
    for (Export *e = table; e; e = e->next) {
        if (e->busy)
            continue;
        fprintf(out,
                "%s %" PRIu64 " %d %" PRIuFAST64 " %" PRIuFAST64 " %" PRIuFAST64 " %" PRIuFAST64
                " %" PRIuFAST64 " %u\n",
                e->volume_id, e->generation, atomic_load(&e->poisoned) ? 1 : 0, atomic_load(&e->written),
                atomic_load(&e->zeroed), atomic_load(&e->read), atomic_load(&e->requests),
                atomic_load(&e->flushes), e->references - 1);
    }
    pthread_mutex_unlock(&lock);
}

void exports_clear(void)
{
    pthread_mutex_lock(&lock);
    while (table)
        revoke_locked(table);
    while (floors) {
        Floor *next = floors->next;
        free(floors);
        floors = next;
    }
    pthread_mutex_unlock(&lock);
}
