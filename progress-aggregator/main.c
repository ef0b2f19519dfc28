/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "lib/base/config.h"
#include "lib/base/drain.h"
#include "lib/base/log.h"
#include "lib/redis/redis.h"
#include "progress-aggregator/aggregator.h"

int main(int argc, char **argv)
{
    static const DroverOption *const tables[] = {drover_aggregator_options, drover_redis_options, drover_fleet_options,
                                                 NULL};
    drover_drain_install();
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverConfig) config =
        drover_config_parse("drover-progress-aggregator", "",
                            "Folds the messages of the fleet into the Redis view (docs/redis.md). Start several: they "
                            "share the work.\nIts only state are the offsets in Redis, written together with the data.",
                            tables, &argc, &argv, &error);
    if (!config) {
        g_printerr("drover-progress-aggregator: %s\n", error->message);
        return 2;
    }
    if (!drover_aggregator_run(config, &error)) {
        drover_error("aggregator.failed", error->message);
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
