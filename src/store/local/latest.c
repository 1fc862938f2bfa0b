/* The rows as the log has them: LMDB's, as of the last checkpoint, and over them those of the
 * overlay.
 *
 * Read when the server starts, before anything changes: what the log has had since the last
 * checkpoint need not be written to LMDB first, which is left to the next checkpoint. Both sides
 * are in the order of the keys, so that one walk through both is enough.
 */
#include "base/mem.h"
#include "store/local/engine_priv.h"

/* A walk: the overlay's rows below `end`, from `at` on, are still to come. */
struct merge {
    struct overlay_row *const *rows;
    uint64_t at, end;
    meta_scan_fn *each;
    void *data;
};

static int hand_out_next(struct merge *merge)
{
    const struct overlay_row *row = merge->rows[merge->at++];
    return row->deleted ? 0 : merge->each(merge->data, overlay_key(row), overlay_value(row));
}

/* A row of LMDB: behind all of the overlay with lower keys, and only if the overlay has no other.
 */
static int merge_row(void *data, struct slice key, struct slice value)
{
    struct merge *merge = data;
    while (merge->at < merge->end) {
        const int order = slice_order(overlay_key(merge->rows[merge->at]), key);
        if (order > 0)
            break;
        const int result = hand_out_next(merge);
        if (order == 0 || result != 0)
            return result;
    }
    return merge->each(merge->data, key, value);
}

/* The first of `count` rows, in order, that is not below `key` in the owner's table. */
static uint64_t first_from(struct overlay_row *const *rows, uint64_t count, struct slice key)
{
    uint64_t low = 0, high = count;
    while (low < high) {
        const uint64_t middle = low + (high - low) / 2;
        const struct overlay_row *row = rows[middle];
        if (row->table == OVERLAY_ROWS && slice_order(overlay_key(row), key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int scan(struct local *local, struct merge *merge, struct slice prefix)
{
    int result = meta_scan(metadb_meta(local->db), prefix, merge_row, merge);
    while (result == 0 && merge->at < merge->end)
        result = hand_out_next(merge);
    return result;
}

static int on_scan(struct meta *meta, struct slice prefix, meta_scan_fn *each, void *data)
{
    struct local *local = CONTAINER_OF(meta, struct local, meta);
    ASSERT(!checkpoint_frozen(local)); /* its rows would be missing */
    const uint64_t count = local->overlay.rows.count;
    struct merge merge = {.each = each, .data = data};
    if (count > 0) {
        if (!local->latest)
            local->latest = overlay_sorted(&local->overlay);
        if (!local->latest)
            return ERR_NOMEM;
        merge.rows = local->latest;
        merge.at = merge.end = first_from(local->latest, count, prefix);
        while (merge.end < count && local->latest[merge.end]->table == OVERLAY_ROWS &&
               slice_begins_with(overlay_key(local->latest[merge.end]), prefix))
            merge.end++;
    }
    return scan(local, &merge, prefix);
}

/* Those that are in both count twice. */
static uint64_t on_count(struct meta *meta, uint8_t first)
{
    const struct local *local = CONTAINER_OF(meta, struct local, meta);
    return meta_count(metadb_meta(local->db), first) + local->latest_counts[first];
}

static const struct meta_ops meta_ops = {.name = "local", .scan = on_scan, .count = on_count};

int latest_open(struct local *local)
{
    const uint64_t count = local->overlay.rows.count;
    local->meta.ops = &meta_ops;
    if (count == 0)
        return 0;
    local->latest = overlay_sorted(&local->overlay);
    if (!local->latest)
        return ERR_NOMEM;
    for (uint64_t i = 0; i < count; i++) {
        const struct overlay_row *row = local->latest[i];
        if (row->table == OVERLAY_ROWS && !row->deleted)
            local->latest_counts[row->bytes[0]]++;
    }
    return 0;
}

void latest_forget(struct local *local)
{
    mem_free(local->latest);
    local->latest = NULL;
}
