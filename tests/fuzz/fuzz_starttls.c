/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The beginning of NBD as a server may play it to us: greeting, answer to NBD_OPT_STARTTLS. The first byte says how the
 * rest is cut. Whatever comes, nothing but flags and NBD_OPT_STARTTLS goes out, and TLS begins after an acknowledgement
 * only, at exactly the byte behind it.
 */
#include <string.h>

#include "lib/base/error.h"
#include "lib/tls/starttls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t greeting[16] = "NBDMAGICIHAVEOPT";
static const uint8_t option[16] = {'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T', 0, 0, 0, 5, 0, 0, 0, 0};
static const uint8_t ack[20] = {0, 0x03, 0xe8, 0x89, 0x04, 0x55, 0x65, 0xa9, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    DroverStarttls starttls = {0};
    g_autoptr(GError) error = NULL;
    size_t step = size > 0 ? data[0] % 32 + 1 : 1, at = 0, sent = 0;
    const uint8_t *in = size > 0 ? data + 1 : data;
    const size_t len = size > 0 ? size - 1 : 0;
    bool ok = true;
    for (size_t wanted; ok && at < len && (wanted = drover_starttls_wants(&starttls)) > 0;) {
        size_t n = MIN(MIN(step, wanted), len - at);
        ok = drover_starttls_feed(&starttls, in + at, n, "server:10809", &error);
        at += n;
        if (starttls.out_len > 0) {
            /* Once, after the greeting: flags that the server offered, fixed newstyle among them, and the option. */
            g_assert(ok && sent == 0 && at == DROVER_STARTTLS_GREETING && memcmp(in, greeting, sizeof greeting) == 0);
            g_assert_cmpuint(starttls.out_len, ==, sizeof starttls.out);
            g_assert(starttls.out[0] == 0 && starttls.out[1] == 0 && starttls.out[2] == 0);
            g_assert((starttls.out[3] & ~(in[17] & 3)) == 0 && (starttls.out[3] & 1) != 0);
            g_assert(memcmp(starttls.out + 4, option, sizeof option) == 0);
            g_assert(memcmp(starttls.greeting, in, DROVER_STARTTLS_GREETING) == 0);
            sent = starttls.out_len;
            starttls.out_len = 0;
        }
    }
    g_assert(ok == (error == NULL));
    g_assert(ok || (drover_error_class(error) == DROVER_ERROR_PERMANENT && g_str_has_prefix(error->message, "DRV-TLS-PLAIN: ")));
    g_assert(!(starttls.done && !ok));
    bool acknowledged = len >= DROVER_STARTTLS_GREETING + sizeof ack && sent > 0 &&
                        memcmp(in + DROVER_STARTTLS_GREETING, ack, sizeof ack) == 0;
    g_assert(starttls.done == acknowledged);
    if (starttls.done)
        g_assert_cmpuint(at, ==, DROVER_STARTTLS_GREETING + sizeof ack);
    return 0;
}
