/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "lib/base/config.h"
#include "lib/base/drain.h"
#include "lib/base/error.h"
#include "lib/base/log.h"
#include "lib/kafka/kafka.h"
#include "scheduler/leader.h"
#include "scheduler/options.h"

static bool run(int argc, char **argv, GError **error)
{
    static const DroverOption *const tables[] = {scheduler_options, drover_fleet_options, NULL};
    g_autoptr(DroverConfig) config = drover_config_parse(
        "drover-scheduler", "",
        "Runs the jobs: plans, hands out tasks to workers and volume agents, and keeps the state on Kafka.\n"
        "Start several: one leads, the others take over within seconds.",
        tables, &argc, &argv, error);
    if (config == NULL)
        return false;
    if (argc > 1)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "Unexpected argument \"%s\"; see --help", argv[1]);
    g_autoptr(SchedulerOptions) options = scheduler_options_read(config, error);
    if (options == NULL)
        return false;
    g_autoptr(DroverKafka) kafka = drover_kafka_new(config, options->process_id, error);
    return kafka != NULL && scheduler_run(kafka, options, error);
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    drover_drain_install();
    if (run(argc, argv, &error))
        return EXIT_SUCCESS;
    const char *advice = error->code == DROVER_ERROR_FENCED
                             ? "another scheduler leads now; a restart stands by"
                             : "a restart continues from the state on Kafka";
    drover_error("scheduler.exit", error->message,
                 F_S("class", drover_error_class_name(drover_error_class(error))), F_S("advice", advice));
    return EXIT_FAILURE;
}
