/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/tls/starttls.h"

#include <string.h>

#include "lib/base/error.h"

#define NBD_MAGIC UINT64_C(0x4e42444d41474943) /* "NBDMAGIC" */
#define OPTION_MAGIC UINT64_C(0x49484156454f5054)
#define REPLY_MAGIC UINT64_C(0x0003e889045565a9)
#define FLAG_FIXED_NEWSTYLE 1u
#define FLAG_NO_ZEROES 2u
#define OPT_STARTTLS 5u
#define REP_ACK 1u
#define REP_ERR_UNSUP 0x80000001u
#define REP_ERR_POLICY 0x80000002u

static uint64_t get(const uint8_t *bytes, size_t n)
{
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++)
        value = value << 8 | bytes[i];
    return value;
}

static void put(uint8_t *bytes, uint64_t value, size_t n)
{
    while (n-- > 0) {
        bytes[n] = (uint8_t)value;
        value >>= 8;
    }
}

size_t drover_starttls_wants(const DroverStarttls *starttls)
{
    if (starttls->done)
        return 0;
    return (starttls->greeted ? DROVER_STARTTLS_REPLY : DROVER_STARTTLS_GREETING) - starttls->have;
}

static bool take_greeting(DroverStarttls *starttls, const char *peer, GError **error)
{
    uint16_t offered = (uint16_t)get(starttls->in + 16, 2);
    if (get(starttls->in, 8) != NBD_MAGIC)
        return drover_fail(
            error, DROVER_ERROR_PERMANENT,
            "DRV-TLS-PLAIN: no NBD server answers at %s; TLS from the first byte is nbd+tls://", peer);
    if (get(starttls->in + 8, 8) != OPTION_MAGIC || (offered & FLAG_FIXED_NEWSTYLE) == 0)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-TLS-PLAIN: the NBD server at %s is too old for TLS", peer);
    memcpy(starttls->greeting, starttls->in, sizeof starttls->greeting);
    put(starttls->flags, offered & (FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES), sizeof starttls->flags);
    memcpy(starttls->out, starttls->flags, sizeof starttls->flags);
    put(starttls->out + 4, OPTION_MAGIC, 8);
    put(starttls->out + 12, OPT_STARTTLS, 4);
    put(starttls->out + 16, 0, 4);
    starttls->out_len = sizeof starttls->out;
    starttls->greeted = true;
    starttls->have = 0;
    return true;
}

static bool take_reply(DroverStarttls *starttls, const char *peer, GError **error)
{
    uint32_t option = (uint32_t)get(starttls->in + 8, 4), type = (uint32_t)get(starttls->in + 12, 4);
    if (get(starttls->in, 8) != REPLY_MAGIC || option != OPT_STARTTLS)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-TLS-PLAIN: what %s answers to NBD_OPT_STARTTLS is not NBD", peer);
    if (type == REP_ERR_UNSUP || type == REP_ERR_POLICY)
        return drover_fail(
            error, DROVER_ERROR_PERMANENT,
            "DRV-TLS-PLAIN: the NBD server at %s offers no TLS, and nothing is sent in plain text", peer);
    if (type != REP_ACK || get(starttls->in + 16, 4) != 0)
        return drover_fail(error, DROVER_ERROR_PERMANENT,
                           "DRV-TLS-PLAIN: the NBD server at %s refused TLS (%08x)", peer, type);
    starttls->done = true;
    return true;
}

bool drover_starttls_feed(DroverStarttls *starttls, const uint8_t *bytes, size_t n, const char *peer,
                          GError **error)
{
    g_assert(n <= drover_starttls_wants(starttls));
    memcpy(starttls->in + starttls->have, bytes, n);
    starttls->have += n;
    if (drover_starttls_wants(starttls) > 0)
        return true;
    return starttls->greeted ? take_reply(starttls, peer, error) : take_greeting(starttls, peer, error);
}
