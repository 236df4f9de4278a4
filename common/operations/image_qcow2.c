/* SPDX-License-Identifier: BSD-2-Clause */
/* An empty qcow2 image, written here since neither QEMU's monitor nor another program is at hand before QEMU runs. */
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "kvm/operations/image.h"
#include "kvm/base/file.h"
#include "kvm/base/memory.h"

/* QEMU docs/interop/qcow2, version 3. The header, the refcount table and its one block, then the L1 table. */
enum {
    CLUSTER_BITS = 16,
    CLUSTER = 1 << CLUSTER_BITS,
    L2_COVERS_BITS = CLUSTER_BITS + CLUSTER_BITS - 3, /* what one L1 entry stands for: 512 MiB */
    REFCOUNT_ORDER = 4,                               /* 16 bits each */
    REFCOUNT_TABLE = 1,                               /* clusters, by number */
    REFCOUNT_BLOCK = 2,
    L1_TABLE = 3,
    HEADER_LENGTH = 104,
};

struct qcow2_header {
    uint32_t magic, version;
    uint64_t backing_offset;
    uint32_t backing_length, cluster_bits;
    uint64_t size;
    uint32_t encryption, l1_entries;
    uint64_t l1_offset, refcount_offset;
    uint32_t refcount_clusters, snapshots;
    uint64_t snapshots_offset, incompatible, compatible, autoclear;
    uint32_t refcount_order, header_length;
};
_Static_assert(sizeof(struct qcow2_header) == HEADER_LENGTH, "no padding in it");

static int write_at(int descriptor, const void *bytes, size_t length, off_t offset)
{
    ssize_t written = pwrite(descriptor, bytes, length, offset);

    if (written >= 0 && (size_t)written < length)
        errno = ENOSPC;
    return written == (ssize_t)length ? 0 : -1;
}

int image_make_qcow2(int descriptor, int64_t size)
{
    uint64_t entries = ((uint64_t)size + (1ULL << L2_COVERS_BITS) - 1) >> L2_COVERS_BITS;
    uint64_t l1_clusters = entries == 0 ? 1 : (entries * sizeof(uint64_t) + CLUSTER - 1) / CLUSTER;
    uint64_t clusters = L1_TABLE + l1_clusters, block = htobe64((uint64_t)REFCOUNT_BLOCK * CLUSTER);
    struct qcow2_header header = {
        .magic = htobe32(0x514649fb),
        .version = htobe32(3),
        .cluster_bits = htobe32(CLUSTER_BITS),
        .size = htobe64((uint64_t)size),
        .l1_entries = htobe32((uint32_t)entries),
        .l1_offset = htobe64((uint64_t)L1_TABLE * CLUSTER),
        .refcount_offset = htobe64((uint64_t)REFCOUNT_TABLE * CLUSTER),
        .refcount_clusters = htobe32(1),
        .refcount_order = htobe32(REFCOUNT_ORDER),
        .header_length = htobe32(HEADER_LENGTH),
    };

    if (clusters > CLUSTER / sizeof(uint16_t)) {
        errno = EFBIG;
        return -1;
    }
    AUTO_FREE uint16_t *counts = memory_zeroed(clusters, sizeof(*counts));
    for (uint64_t i = 0; i < clusters; i++)
        counts[i] = htobe16(1);
    if (ftruncate(descriptor, 0) < 0 || ftruncate(descriptor, (off_t)(clusters * CLUSTER)) < 0 ||
        write_at(descriptor, &block, sizeof(block), (off_t)REFCOUNT_TABLE * CLUSTER) < 0 ||
        write_at(descriptor, counts, clusters * sizeof(*counts), (off_t)REFCOUNT_BLOCK * CLUSTER) <
            0)
        return -1;
    return write_at(descriptor, &header, sizeof(header), 0);
}
