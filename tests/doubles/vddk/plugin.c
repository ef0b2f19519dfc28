/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stand-in for nbdkit's vddk plugin: the same name and parameters, strict about them, reading the snapshots
 * that the vCenter stand-in (../vcsim) froze. Behaves like the real one: reads of whole sectors only, extents
 * in chunks of 128 sectors (QueryAllocatedBlocks), parallel threads.
 */
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "connect.h"
#include "options.h"
#include "shared.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
#define SECTOR 512
#define CHUNK (128 * SECTOR)

struct handle {
    int fd;
    int64_t size;
    struct vddk_shared *shared;
};

static void vddk_load(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

static void vddk_unload(void)
{
    vddk_options_clear();
    curl_global_cleanup();
}

static int map_shared(struct handle *h, const char *file)
{
    int fd = open(file, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        nbdkit_error("%s: %m", file);
        return -1;
    }
    void *map = mmap(NULL, VDDK_SHARED_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (map == MAP_FAILED) {
        nbdkit_error("%s: %m", file);
        return -1;
    }
    h->shared = map;
    return 0;
}

static int open_image(struct handle *h, const char *image)
{
    struct stat st;
    h->fd = open(image, O_RDONLY | O_CLOEXEC);
    if (h->fd < 0 || fstat(h->fd, &st) != 0) {
        nbdkit_error("VixDiskLib_Open: %s: %m", image);
        return -1;
    }
    h->size = st.st_size;
    return 0;
}

static void vddk_close(void *handle)
{
    struct handle *h = handle;
    if (h->fd >= 0)
        close(h->fd);
    if (h->shared) {
        h->shared->open = 0;
        munmap(h->shared, VDDK_SHARED_SIZE);
    }
    free(h);
}

static void *vddk_open(int readonly)
{
    char *image = NULL, *shared = NULL;
    if (!readonly) {
        nbdkit_error("VixDiskLib_Open: a snapshot cannot be opened for writing: nbdkit -r is missing");
        return NULL;
    }
    if (vddk_connect(&image, &shared) != 0)
        return NULL;
    struct handle *h = calloc(1, sizeof *h);
    if (!h)
        abort();
    h->fd = -1;
    if (map_shared(h, shared) != 0 || open_image(h, image) != 0) {
        vddk_close(h);
        h = NULL;
    } else {
        h->shared->open = 1;
    }
    free(image);
    free(shared);
    return h;
}

static int64_t vddk_get_size(void *handle)
{
    return ((struct handle *)handle)->size;
}

static int vddk_block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
    (void)handle;
    *minimum = SECTOR;
    *preferred = 4096;
    *maximum = 2 << 20;
    return 0;
}

static int vddk_can_extents(void *handle)
{
    (void)handle;
    return 1;
}

/* What a test told this disk to do, before it is read: 0, or -1 with errno. */
static int obey(struct handle *h)
{
    while (h->shared->command != VDDK_RUN && h->shared->bytes >= h->shared->after) {
        if (h->shared->command == VDDK_DIE)
            kill(getpid(), SIGKILL);
        if (h->shared->command == VDDK_FAIL) {
            nbdkit_error("VixDiskLib_Read: NBD_ERR_GENERIC");
            errno = EIO;
            return -1;
        }
        if (nbdkit_nanosleep(0, 20 * 1000 * 1000) == -1)
            return -1;
    }
    return 0;
}

static int vddk_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    struct handle *h = handle;
    (void)flags;
    if (offset % SECTOR != 0 || count % SECTOR != 0) {
        nbdkit_error("read is not aligned to sectors");
        errno = EINVAL;
        return -1;
    }
    if (obey(h) != 0)
        return -1;
    h->shared->reads++;
    h->shared->bytes += count;
    for (char *at = buf; count > 0;) {
        ssize_t n = pread(h->fd, at, count, (off_t)offset);
        if (n <= 0) {
            nbdkit_error("VixDiskLib_Read: %m");
            return -1;
        }
        at += n;
        count -= (uint32_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

/* Tells the extents from OFFSET; those of a file's data, widened to chunks. */
static int vddk_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
                        struct nbdkit_extents *extents)
{
    struct handle *h = handle;
    /* The data of a hole in a single link may come from its parents. */
    const uint32_t hole = NBDKIT_EXTENT_HOLE | (vddk_options.single_link ? 0u : NBDKIT_EXTENT_ZERO);
    uint64_t at = offset / CHUNK * CHUNK;
    const uint64_t end = offset + count;
    if (obey(h) != 0)
        return -1;
    h->shared->extents++;
    while (at < end) {
        off_t data = lseek(h->fd, (off_t)at, SEEK_DATA);
        uint64_t from = data < 0 ? (uint64_t)h->size : (uint64_t)data / CHUNK * CHUNK;
        if (from > at) {
            if (nbdkit_add_extent(extents, at, from - at, hole) != 0)
                return -1;
            if (flags & NBDKIT_FLAG_REQ_ONE && from > offset)
                return 0;
            at = from;
            continue;
        }
        off_t gap = lseek(h->fd, data > (off_t)at ? data : (off_t)at, SEEK_HOLE);
        if (gap < 0)
            gap = h->size;
        uint64_t to = ((uint64_t)gap + CHUNK - 1) / CHUNK * CHUNK;
        if (to > (uint64_t)h->size)
            to = (uint64_t)h->size;
        if (to <= at)
            break;
        if (nbdkit_add_extent(extents, at, to - at, 0) != 0)
            return -1;
        if (flags & NBDKIT_FLAG_REQ_ONE && to > offset)
            return 0;
        at = to;
    }
    return 0;
}

static struct nbdkit_plugin plugin = {
    .name = "vddk",
    .longname = "stand-in for the VMware VDDK plugin",
    .load = vddk_load,
    .unload = vddk_unload,
    .config = vddk_config,
    .config_complete = vddk_config_complete,
    .config_help = "libdir= server= user= password= thumbprint= vm= snapshot= file= ...",
    .magic_config_key = "file",
    .open = vddk_open,
    .close = vddk_close,
    .get_size = vddk_get_size,
    .block_size = vddk_block_size,
    .can_extents = vddk_can_extents,
    .pread = vddk_pread,
    .extents = vddk_extents,
};

NBDKIT_REGISTER_PLUGIN(plugin)
