/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/frontdoor-rotate.h"

#include <errno.h>
#include <gio/gio.h>
#include <gio/gunixsocketaddress.h>
#include <string.h>

#include "lib/base/error.h"

#define ANSWER_SECONDS 30

static void wipe(char *text)
{
    if (text)
        memset(text, 0, strlen(text));
    g_free(text);
}

/* One command a connection: HAProxy closes it after the answer. */
static char *ask(const char *admin_socket, const char *command, GError **error)
{
    g_autoptr(GSocketClient) client = g_socket_client_new();
    g_autoptr(GSocketAddress) address = g_unix_socket_address_new(admin_socket);
    g_autoptr(GError) why = NULL;
    g_socket_client_set_timeout(client, ANSWER_SECONDS);
    g_autoptr(GSocketConnection) connection =
        g_socket_client_connect(client, G_SOCKET_CONNECTABLE(address), NULL, &why);
    GOutputStream *out = connection ? g_io_stream_get_output_stream(G_IO_STREAM(connection)) : NULL;
    GInputStream *in = connection ? g_io_stream_get_input_stream(G_IO_STREAM(connection)) : NULL;
    g_autoptr(GString) answer = g_string_new(NULL);
    char buffer[4096];
    gssize n = out && g_output_stream_write_all(out, command, strlen(command), NULL, NULL, &why) ? 1 : -1;
    while (n > 0 && (n = g_input_stream_read(in, buffer, sizeof buffer, NULL, &why)) > 0)
        g_string_append_len(answer, buffer, n);
    if (n == 0)
        return g_string_free(g_steal_pointer(&answer), FALSE);
    drover_fail(error, DROVER_ERROR_RETRYABLE, "HAProxy does not answer at %s: %s", admin_socket, why->message);
    return NULL;
}

/* An empty line would end the payload. */
static char *without_empty_lines(const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    g_autoptr(GString) out = g_string_new(NULL);
    for (char **line = lines; *line; line++) {
        if (*g_strchomp(*line))
            g_string_append_printf(out, "%s\n", *line);
        memset(*line, 0, strlen(*line));
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}

static bool refuse(const char *answer, const char *file, GError **error)
{
    g_autofree char *words = g_strstrip(g_strdup(answer));
    g_strdelimit(words, "\r\n", ' ');
    return drover_fail(error, DROVER_ERROR_PERMANENT, "HAProxy refuses %s and goes on with what it had: %s", file, words);
}

bool drover_frontdoor_rotate(const char *admin_socket, const char *kind, const char *file, GError **error)
{
    char *content = NULL;
    g_autoptr(GError) why = NULL;
    if (!g_file_get_contents(file, &content, NULL, &why))
        return drover_fail(error, DROVER_ERROR_PERMANENT, "%s", why->message);
    char *payload = without_empty_lines(content);
    char *set = g_strdup_printf("set ssl %s %s <<\n%s\n", kind, file, payload);
    g_autofree char *prepared = ask(admin_socket, set, error);
    wipe(content);
    wipe(payload);
    wipe(set);
    if (!prepared)
        return false;
    if (!strstr(prepared, "ransaction created") && !strstr(prepared, "ransaction updated"))
        return refuse(prepared, file, error);
    g_autofree char *commit = g_strdup_printf("commit ssl %s %s\n", kind, file);
    g_autofree char *committed = ask(admin_socket, commit, error);
    if (!committed)
        return false;
    if (strstr(committed, "Success!"))
        return true;
    g_autofree char *abort = g_strdup_printf("abort ssl %s %s\n", kind, file);
    g_autofree char *aborted = ask(admin_socket, abort, NULL);
    return refuse(committed, file, error);
}
