/* SPDX-License-Identifier: Apache-2.0 */
#include "core/dispatch/grants.h"

#include <stdbool.h>

typedef struct {
    char *holder;
    uint64_t bytes_per_second; /* beyond the floor */
    int64_t expires_ms;
} Held;

struct DroverGrants {
    GArray *held; /* Held; a holder may have several that have not expired */
};

static void clear_held(void *data)
{
    g_free(((Held *)data)->holder);
}

DroverGrants *drover_grants_new(void)
{
    DroverGrants *grants = g_new0(DroverGrants, 1);
    grants->held = g_array_new(false, false, sizeof(Held));
    g_array_set_clear_func(grants->held, clear_held);
    return grants;
}

void drover_grants_free(DroverGrants *grants)
{
    if (grants == NULL)
        return;
    g_array_unref(grants->held);
    g_free(grants);
}

uint64_t drover_grants_floor(uint64_t limit, uint32_t max_holders)
{
    return MAX(limit / 10 / MAX(max_holders, 1), 1);
}

static void drop(DroverGrants *grants, const char *holder, int64_t now_ms)
{
    for (guint i = grants->held->len; i-- > 0;) {
        const Held *held = &g_array_index(grants->held, Held, i);
        if (holder != NULL ? g_str_equal(held->holder, holder) : held->expires_ms <= now_ms)
            g_array_remove_index_fast(grants->held, i);
    }
}

/* Most that HOLDER may be using. */
static uint64_t in_use(const DroverGrants *grants, const char *holder)
{
    uint64_t most = 0;
    for (guint i = 0; i < grants->held->len; i++) {
        const Held *held = &g_array_index(grants->held, Held, i);
        if (g_str_equal(held->holder, holder))
            most = MAX(most, held->bytes_per_second);
    }
    return most;
}

/* The sum over all holders but ONE of the most that each may be using. */
static uint64_t used_by_others(const DroverGrants *grants, const char *one)
{
    uint64_t sum = 0;
    for (guint i = 0; i < grants->held->len; i++) {
        const Held *held = &g_array_index(grants->held, Held, i);
        bool first = true;
        for (guint k = 0; k < i && first; k++)
            first = !g_str_equal(g_array_index(grants->held, Held, k).holder, held->holder);
        if (first && !g_str_equal(held->holder, one))
            sum += in_use(grants, held->holder);
    }
    return sum;
}

void drover_grants_hold(DroverGrants *grants, const char *holder, uint64_t rate, int64_t expires_ms)
{
    Held held = {g_strdup(holder), rate, expires_ms};
    g_array_append_val(grants->held, held);
}

void drover_grants_renew(DroverGrants *grants, uint64_t limit, uint64_t floor, DroverGrant *holders, size_t n,
                         int64_t ttl_ms, int64_t now_ms)
{
    drop(grants, NULL, now_ms);
    if (n == 0)
        return;
    uint64_t shared = limit - MIN(limit, limit / 10); /* the tenth belongs to the floors */
    uint64_t fair = shared / n;
    for (size_t i = 0; i < n; i++) {
        uint64_t others = used_by_others(grants, holders[i].holder);
        uint64_t rate = MIN(fair, shared - MIN(shared, others));
        /* The holder counts from when it reads the grant, which is later than now. */
        drover_grants_hold(grants, holders[i].holder, rate, now_ms + ttl_ms + ttl_ms / 2);
        holders[i].bytes_per_second = rate + floor;
    }
}

void drover_grants_end(DroverGrants *grants, const char *holder)
{
    drop(grants, holder, 0);
}
