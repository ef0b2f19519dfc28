/* SPDX-License-Identifier: Apache-2.0 */
#include "connect.h"

#include <curl/curl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "options.h"

struct text {
    char *data;
    size_t length;
};

static size_t collect(char *data, size_t size, size_t count, void *to)
{
    struct text *text = to;
    size_t more = size * count;
    char *grown = realloc(text->data, text->length + more + 1);
    if (!grown)
        return 0;
    memcpy(grown + text->length, data, more);
    text->data = grown;
    text->length += more;
    grown[text->length] = '\0';
    return more;
}

/* The body of the answer, to be freed, or NULL with an error told. */
static char *post(const char *url, const char *body)
{
    CURL *curl = curl_easy_init();
    struct text answer = {0};
    long status = 0;
    if (!curl)
        return NULL;
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    /* As with VDDK the thumbprint decides; the stand-in compares it. */
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 60L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, collect);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer);
    CURLcode code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(curl);
    if (code == CURLE_OK && status == 200)
        return answer.data;
    if (answer.data)
        answer.data[strcspn(answer.data, "\n")] = '\0';
    if (code != CURLE_OK)
        nbdkit_error("VixDiskLib_ConnectEx: cannot connect to %s: %s", url, curl_easy_strerror(code));
    else
        nbdkit_error("%s", answer.data ? answer.data : "VixDiskLib_ConnectEx: Unknown error");
    free(answer.data);
    return NULL;
}

static int parse(const char *answer, char **image, char **shared)
{
    json_t *json = json_loads(answer, 0, NULL);
    const char *where = json_string_value(json_object_get(json, "image"));
    const char *what = json_string_value(json_object_get(json, "shared"));
    int result = -1;
    if (where && what) {
        *image = strdup(where);
        *shared = strdup(what);
        result = 0;
    } else {
        nbdkit_error("the vCenter stand-in answered: %s", answer);
    }
    json_decref(json);
    return result;
}

int vddk_connect(char **image, char **shared)
{
    const struct vddk_options *o = &vddk_options;
    char url[512];
    snprintf(url, sizeof url, "https://%s:%u/ctl/vddk-open", o->server, o->port);
    json_t *json =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:i}", "user", o->user, "password", o->password,
                  "thumbprint", o->thumbprint, "vm", o->vm, "snapshot", o->snapshot, "file", o->file,
                  "transports", o->transports ? o->transports : "", "pid", (int)getpid());
    char *body = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    if (!body) {
        nbdkit_error("a parameter is not UTF-8");
        return -1;
    }
    char *answer = post(url, body);
    free(body);
    if (!answer)
        return -1;
    int result = parse(answer, image, shared);
    free(answer);
    return result;
}
