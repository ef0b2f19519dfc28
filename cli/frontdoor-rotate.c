/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/frontdoor-rotate.h"

#include <errno.h>
#include <gio/gio.h>
#include <gio/gunixsocketaddress.h>
#include <string.h>

#include "cli/pki-certificate.h"
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
    drover_fail(error, DROVER_ERROR_RETRYABLE, "HAProxy does not answer at %s: %s", admin_socket,
                why->message);
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
    return drover_fail(error, DROVER_ERROR_PERMANENT, "HAProxy refuses %s and goes on with what it had: %s",
                       file, words);
}

static char *read_file(const char *file, GError **error)
{
    char *content = NULL;
    g_autoptr(GError) why = NULL;
    if (!g_file_get_contents(file, &content, NULL, &why))
        drover_fail(error, DROVER_ERROR_PERMANENT, "%s", why->message);
    return content;
}

bool drover_frontdoor_rotate(const char *admin_socket, const char *certificate, GError **error)
{
    char *content = read_file(certificate, error);
    if (!content)
        return false;
    char *payload = without_empty_lines(content);
    char *set = g_strdup_printf("set ssl cert %s <<\n%s\n", certificate, payload);
    g_autofree char *prepared = ask(admin_socket, set, error);
    wipe(content);
    wipe(payload);
    wipe(set);
    if (!prepared)
        return false;
    if (!strstr(prepared, "ransaction created") && !strstr(prepared, "ransaction updated"))
        return refuse(prepared, certificate, error);
    g_autofree char *commit = g_strdup_printf("commit ssl cert %s\n", certificate);
    g_autofree char *committed = ask(admin_socket, commit, error);
    if (!committed)
        return false;
    if (strstr(committed, "Success!"))
        return true;
    g_autofree char *abort = g_strdup_printf("abort ssl cert %s\n", certificate);
    g_autofree char *aborted = ask(admin_socket, abort, NULL);
    return refuse(committed, certificate, error);
}

/* SHA-1 because that is what HAProxy shows; it compares two of our own files here. */
static char *fingerprint(X509 *certificate)
{
    unsigned char hash[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    g_autoptr(GString) out = g_string_new(NULL);
    if (X509_digest(certificate, EVP_sha1(), hash, &len) == 1)
        for (unsigned i = 0; i < len; i++)
            g_string_append_printf(out, "%02X", hash[i]);
    return g_string_free(g_steal_pointer(&out), FALSE);
}

bool drover_frontdoor_trusts(const char *admin_socket, const char *authority, bool *same, GError **error)
{
    g_autofree char *content = read_file(authority, error);
    g_autofree char *command = g_strdup_printf("show ssl ca-file %s\n", authority);
    g_autofree char *answer = content ? ask(admin_socket, command, error) : NULL;
    if (!answer)
        return false;
    g_autoptr(GString) left = g_string_new(answer);
    g_auto(GStrv) blocks = g_strsplit(content, "-----BEGIN CERTIFICATE-----", -1);
    *same = true;
    for (char **block = blocks + 1; blocks[0] && *block; block++) {
        g_autofree char *pem = g_strconcat("-----BEGIN CERTIFICATE-----", *block, NULL);
        g_autoptr(X509) certificate = drover_pki_certificate_read(pem, error);
        if (!certificate)
            return false;
        g_autofree char *hash = fingerprint(certificate);
        *same = *same && *hash && strstr(left->str, hash);
        g_string_replace(left, hash, "", 0);
    }
    /* One that HAProxy trusts and the file does not has its fingerprint left. */
    *same = *same && !g_regex_match_simple("FingerPrint: [0-9A-F]", left->str, 0, 0);
    return true;
}
