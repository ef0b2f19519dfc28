/* SPDX-License-Identifier: Apache-2.0 */
#include "core/preflight/waves.h"

#include <glib.h>

static int by_risk_and_size(gconstpointer a, gconstpointer b)
{
    const DroverWaveVm *x = *(DroverWaveVm *const *)a, *y = *(DroverWaveVm *const *)b;
    if (x->risk != y->risk)
        return x->risk < y->risk ? -1 : 1;
    if (x->used_bytes != y->used_bytes)
        return x->used_bytes < y->used_bytes ? -1 : 1;
    return (x > y) - (x < y);
}

unsigned drover_plan_waves(DroverWaveVm *vms, size_t n, const DroverWaveLimits *limits)
{
    g_autoptr(GPtrArray) order = g_ptr_array_new();
    for (size_t i = 0; i < n; i++)
        g_ptr_array_add(order, &vms[i]);
    g_ptr_array_sort(order, by_risk_and_size);
    uint64_t room = limits->window_ms * MAX(limits->parallel, 1), used = 0;
    unsigned wave = n ? 1 : 0, members = 0;
    for (guint i = 0; i < order->len; i++) {
        DroverWaveVm *vm = g_ptr_array_index(order, i);
        unsigned most = wave == 1 ? MIN(DROVER_PILOT_VMS, MAX(limits->most_vms, 1)) : MAX(limits->most_vms, 1);
        /* Parallel copies of short VMs do not make a long one shorter: it must fit the window, too. */
        if (members && (members == most || vm->time_ms > limits->window_ms || vm->time_ms > room - MIN(used, room))) {
            wave++;
            members = 0;
            used = 0;
        }
        vm->wave = wave;
        members++;
        used += MIN(vm->time_ms, G_MAXINT64);
    }
    return wave;
}
