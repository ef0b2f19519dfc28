/* SPDX-License-Identifier: Apache-2.0 */
/* drover-copy: the copy engine as one command. */
#include <string.h>
#include <unistd.h>

#include "lib/base/config.h"
#include "lib/base/drain.h"
#include "worker/drover-copy/job.h"

static const DroverOption options[] = {
    {"", "connections", DROVER_OPTION_INT, "0", "N",
     "Connections to each side, where it allows several; 0: 2 to 4 by processors, up to 16 when latency asks for more", 0},
    {"", "memory", DROVER_OPTION_SIZE, "64M", "SIZE", "Buffers", 0},
    {"", "request-size", DROVER_OPTION_SIZE, "512K", "SIZE", "Bytes a request, at most 2M", 0},
    {"", "digest", DROVER_OPTION_STRING, "none", "none|xxh3|sha256",
     "Hash what is read, a root for each 32 MiB; with --resume and not said: xxh3", 0},
    {"", "verify", DROVER_OPTION_BOOL, NULL, NULL, "Read the target back and compare (implies --digest=xxh3)",
     0},
    {"", "rate", DROVER_OPTION_SIZE, "0", "SIZE", "At most so many bytes a second; 0: no limit", 0},
    {"", "rate-file", DROVER_OPTION_STRING, NULL, "FILE",
     "The same, read from FILE at once and whenever its content changes; what is no size leaves the rate as it is", 0},
    {"", "extents", DROVER_OPTION_BOOL, "true", NULL, "Ask the source for holes, and do not read those", 0},
    {"", "target-is-zero", DROVER_OPTION_BOOL, NULL, NULL, "The target reads as zero: write no zeroes", 0},
    {"", "allocated", DROVER_OPTION_BOOL, NULL, NULL,
     "Zeroes take space at the target: no holes are punched, and a new file gets none", 0},
    {"", "flush", DROVER_OPTION_BOOL, "true", NULL, "Flush the target before success is said", 0},
    {"", "progress", DROVER_OPTION_STRING, NULL, "bar|json|none",
     "Progress on standard error; without a value: bar", 0},
    {"", "report", DROVER_OPTION_STRING, NULL, "FILE", "JSON report at the end; - for standard output", 0},
    {"", "resume", DROVER_OPTION_STRING, NULL, "FILE",
     "Remember finished cells in FILE, and go on from there", 0},
    {"", "ranges", DROVER_OPTION_STRING, NULL, "FILE",
     "Copy only these areas: one a line, \"<offset> <length>\" in bytes; any order, rounded to the servers' "
     "blocks",
     0},
    {"", "token-file", DROVER_OPTION_STRING, NULL, "FILE",
     "\"<generation>.<token>\" that completes the target's export name", 0},
    {"", "tls-ca", DROVER_OPTION_STRING, NULL, "FILE",
     "PEM: authorities that may have signed the server's certificate; without it: the system's", 0},
    {"", "tls-cert", DROVER_OPTION_STRING, NULL, "FILE",
     "PEM: our certificate for servers that want one, intermediate ones behind it", 0},
    {"", "tls-key", DROVER_OPTION_STRING, NULL, "FILE", "PEM: its key; without it: in the file of --tls-cert", 0},
    {"", "tls-name", DROVER_OPTION_STRING, NULL, "NAME",
     "The server's certificate must be for this name; without it: for the host in the URI", 0},
    {"", "tls-min", DROVER_OPTION_STRING, "1.3", "1.2|1.3", "Oldest version of TLS that is accepted", 0},
    {"", "source-format", DROVER_OPTION_STRING, "raw", "FORMAT",
     "Of a source file: raw, qcow2, vmdk, vhdx, vpc", 0},
    {"", "target-format", DROVER_OPTION_STRING, "raw", "FORMAT",
     "Of a target file, which must exist unless it is raw", 0},
    {"", "connect-timeout", DROVER_OPTION_DURATION, "30s", "TIME",
     "How long the first connection of a side may take", 0},
    {"", "reconnect-timeout", DROVER_OPTION_DURATION, "10m", "TIME", "How long to try after a loss", 0},
    {"", "stall-timeout", DROVER_OPTION_DURATION, "60s", "TIME",
     "A server that owes an answer so long counts as lost", 0},
    DROVER_OPTION_END,
};

static const char description[] =
    "Copies a disk from SRC to DST. Each is an NBD URI (nbd://HOST[:PORT]/EXPORT, "
    "nbd+unix:///EXPORT?socket=PATH)\n"
    "or a file, which a private server child serves. With TLS: nbds://HOST[:PORT]/EXPORT (negotiated inside NBD), "
    "nbd+tls://HOST[:PORT]/EXPORT\n"
    "(from the first byte, port 443: a front door); then nothing moves in plain text. Holes are neither read nor sent, lost connections are "
    "opened\n"
    "again, and what was not flushed by then is written again.\n\n"
    "Exit codes: 0 copied (and equal, with --verify); 1 wrong usage; 2 failed, repeating does not help;\n"
    "3 failed, try again (with --resume it goes on where it was); 4 --verify found differences; 5 stopped by "
    "a signal.";

static bool fill_params(const DroverConfig *config, DroverCopyParams *params, bool verify, GError **error)
{
    const char *digest = drover_config_string(config, ".digest");
    if (!drover_digest_parse_name(digest, &params->digest))
        return drover_fail(error, DROVER_ERROR_PERMANENT, "--digest: '%s' is not none, xxh3 or sha256",
                           digest);
    bool resume = *drover_config_string(config, ".resume") != '\0';
    /* Going on somewhere wants to see whether it is still the same disk. */
    if (params->digest == DROVER_DIGEST_NONE &&
        (verify || (resume && !drover_config_is_set(config, ".digest"))))
        params->digest = DROVER_DIGEST_XXH3;
    int64_t connections = drover_config_int(config, ".connections");
    if (connections > 64)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "--connections must be between 1 and 64, or 0");
    params->connections = (uint32_t)connections;
    params->memory_bytes = (uint64_t)drover_config_int(config, ".memory");
    params->request_bytes = (uint64_t)drover_config_int(config, ".request-size");
    params->rate_bytes_per_second = (uint64_t)drover_config_int(config, ".rate");
    params->no_extents = !drover_config_bool(config, ".extents");
    params->target_is_zero = drover_config_bool(config, ".target-is-zero");
    params->allocated = drover_config_bool(config, ".allocated");
    params->no_flush = !drover_config_bool(config, ".flush");
    params->connect_deadline_ms = (uint32_t)MIN(drover_config_int(config, ".connect-timeout"), G_MAXUINT32);
    params->reconnect_deadline_ms =
        (uint32_t)MIN(drover_config_int(config, ".reconnect-timeout"), G_MAXUINT32);
    params->stall_deadline_ms = (uint32_t)MIN(drover_config_int(config, ".stall-timeout"), G_MAXUINT32);
    /* Nothing is gained by flushing often when nobody goes on from there, but for what a lost connection
     * costs. */
    params->unflushed_bytes = resume ? 0 : UINT64_C(1) << 30;
    params->flush_interval_ms = resume ? 1000 : 30000;
    return true;
}

static bool fill_tls(const DroverConfig *config, DroverTlsSettings *tls, GError **error)
{
    const char *min = drover_config_string(config, ".tls-min");
    *tls = (DroverTlsSettings){
        .ca_file = drover_config_string(config, ".tls-ca"),
        .cert_file = drover_config_string(config, ".tls-cert"),
        .key_file = drover_config_string(config, ".tls-key"),
        .name = drover_config_string(config, ".tls-name"),
        .allow_tls12 = strcmp(min, "1.2") == 0,
    };
    return tls->allow_tls12 || strcmp(min, "1.3") == 0 ||
           drover_fail(error, DROVER_ERROR_PERMANENT, "--tls-min: '%s' is not 1.2 or 1.3", min);
}

static bool fill_job(const DroverConfig *config, DroverJob *job, GError **error)
{
    const char *progress = drover_config_string(config, ".progress");
    job->source_format = drover_config_string(config, ".source-format");
    job->target_format = drover_config_string(config, ".target-format");
    job->token_file = drover_config_string(config, ".token-file");
    job->resume_file = drover_config_string(config, ".resume");
    job->report_file = drover_config_string(config, ".report");
    job->rate_file = drover_config_string(config, ".rate-file");
    job->rate_given = drover_config_is_set(config, ".rate");
    job->ranges_file = drover_config_string(config, ".ranges");
    if (!fill_tls(config, &job->tls, error))
        return false;
    job->verify = drover_config_bool(config, ".verify");
    if (strcmp(progress, "json") == 0)
        job->show = DROVER_SHOW_JSON;
    else if (strcmp(progress, "bar") == 0 || (*progress == '\0' && isatty(STDERR_FILENO)))
        job->show = DROVER_SHOW_BAR;
    else if (*progress != '\0' && strcmp(progress, "none") != 0)
        return drover_fail(error, DROVER_ERROR_PERMANENT, "--progress: '%s' is not bar, json or none",
                           progress);
    return fill_params(config, &job->params, job->verify, error);
}

/* --progress alone means a bar, as nbdcopy's users expect; the option table wants a value. */
static void complete_progress(int argc, char **argv)
{
    static char bar[] = "--progress=bar";
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--progress") == 0)
            argv[i] = bar;
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    drover_drain_install();
    complete_progress(argc, argv);
    const DroverOption *const tables[] = {options, NULL};
    g_autoptr(DroverConfig) config =
        drover_config_parse("drover-copy", "SRC DST", description, tables, &argc, &argv, &error);
    DroverJob job = {0};
    if (config == NULL || !fill_job(config, &job, &error)) {
        g_printerr("drover-copy: %s\n", error->message);
        return DROVER_EXIT_USAGE;
    }
    if (argc != 3) {
        g_printerr("drover-copy: give a source and a target; see --help\n");
        return DROVER_EXIT_USAGE;
    }
    job.source = argv[1];
    job.target = argv[2];
    /* Whoever names an authority wants TLS: a forgotten "+tls" must not become a plain copy. */
    if (drover_job_forgets_tls(&job)) {
        g_printerr("drover-copy: --tls-... is given, but neither end has TLS: use nbds:// or nbd+tls://\n");
        return DROVER_EXIT_USAGE;
    }
    return drover_job_run(&job);
}
