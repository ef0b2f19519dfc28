/* SPDX-License-Identifier: Apache-2.0 */
/* What is said: NBD's few plain words before TLS, and the errors that people read when TLS does not come about. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <string.h>

#include "lib/base/error.h"
#include "lib/tls/failure.h"
#include "lib/tls/starttls.h"

#define GREETING "NBDMAGICIHAVEOPT\0\3"
#define REPLY "\0\003\350\211\004\125\145\251"
#define ACK REPLY "\0\0\0\5\0\0\0\1\0\0\0\0"

static bool play(DroverStarttls *starttls, const char *bytes, size_t n, size_t step, GError **error)
{
    for (size_t at = 0; at < n;) {
        size_t part = MIN(MIN(step, n - at), drover_starttls_wants(starttls));
        assert_int_not_equal(part, 0);
        if (!drover_starttls_feed(starttls, (const uint8_t *)bytes + at, part, "server", error))
            return false;
        at += part;
    }
    return true;
}

static void test_acknowledged(void **state)
{
    (void)state;
    for (size_t step = 1; step <= 20; step++) {
        DroverStarttls starttls = {0};
        assert_int_equal(drover_starttls_wants(&starttls), 18);
        assert_true(play(&starttls, GREETING, 18, step, NULL));
        assert_int_equal(starttls.out_len, 20);
        assert_memory_equal(starttls.out, "\0\0\0\3IHAVEOPT\0\0\0\5\0\0\0\0", 20);
        assert_false(starttls.done);
        assert_int_equal(drover_starttls_wants(&starttls), 20);
        assert_true(play(&starttls, ACK, 20, step, NULL));
        assert_true(starttls.done);
        assert_int_equal(drover_starttls_wants(&starttls), 0); /* what follows is TLS */
    }
}

static void test_only_offered_flags_are_taken(void **state)
{
    (void)state;
    DroverStarttls starttls = {0};
    assert_true(play(&starttls, "NBDMAGICIHAVEOPT\377\375", 18, 18, NULL));
    assert_memory_equal(starttls.out, "\0\0\0\1", 4);
}

static void test_no_tls_there(void **state)
{
    (void)state;
    const struct {
        const char *greeting, *reply, *text;
    } cases[] = {
        {"HTTP/1.1 400 Bad R", NULL, "no NBD server"},
        {"NBDMAGIC\0\0\x42\x02\x81\x86\x12\x53\0\0", NULL, "too old"},
        {"NBDMAGICIHAVEOPT\0\2", NULL, "too old"},
        {GREETING, REPLY "\0\0\0\5\200\0\0\1\0\0\0\0", "offers no TLS"},
        {GREETING, REPLY "\0\0\0\5\200\0\0\2\0\0\0\0", "offers no TLS"},
        {GREETING, REPLY "\0\0\0\5\200\0\0\3\0\0\0\0", "80000003"},
        {GREETING, REPLY "\0\0\0\5\0\0\0\1\0\0\0\1", "refused"},
        {GREETING, REPLY "\0\0\0\7\0\0\0\1\0\0\0\0", "is not NBD"},
        {GREETING, "\x16\3\3\0\0\0\0\0\0\0\0\5\0\0\0\1\0\0\0\0", "is not NBD"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        DroverStarttls starttls = {0};
        g_autoptr(GError) error = NULL;
        bool ok = play(&starttls, cases[i].greeting, 18, 7, &error);
        assert_true(ok == (cases[i].reply != NULL));
        assert_false(ok && play(&starttls, cases[i].reply, 20, 20, &error));
        assert_false(starttls.done);
        assert_int_equal(drover_error_class(error), DROVER_ERROR_PERMANENT);
        assert_true(g_str_has_prefix(error->message, "DRV-TLS-PLAIN: "));
        if (strstr(error->message, cases[i].text) == NULL)
            fail_msg("case %zu: %s", i, error->message);
    }
}

static const DroverTlsTrouble trouble = {.peer = "door:443", .name = "door.example"};

static void expect(GError *error, DroverErrorClass error_class, const char *prefix, const char *text)
{
    assert_non_null(error);
    if (!g_str_has_prefix(error->message, prefix) || strstr(error->message, text) == NULL ||
        strstr(error->message, "door:443") == NULL || drover_error_class(error) != error_class)
        fail_msg("\"%s\" (%s), expected %s and \"%s\"", error->message, drover_error_class_name(drover_error_class(error)),
                 prefix, text);
    g_error_free(error);
}

static void test_alerts(void **state)
{
    (void)state;
    const struct {
        int alert;
        const char *prefix, *text;
    } cases[] = {
        {SSL_AD_CERTIFICATE_REQUIRED, "DRV-TLS-CLIENT: ", "none is configured"},
        {SSL_AD_CERTIFICATE_EXPIRED, "DRV-TLS-CLIENT: ", "expired"},
        {SSL_AD_CERTIFICATE_REVOKED, "DRV-TLS-CLIENT: ", "revoked"},
        {SSL_AD_UNKNOWN_CA, "DRV-TLS-CLIENT: ", "authority"},
        {SSL_AD_BAD_CERTIFICATE, "DRV-TLS-CLIENT: ", "refuses"},
        {SSL_AD_ACCESS_DENIED, "DRV-TLS-CLIENT: ", "refuses"},
        {SSL_AD_PROTOCOL_VERSION, "DRV-TLS-VERSION: ", "tls-min=1.2"},
        {SSL_AD_HANDSHAKE_FAILURE, "DRV-TLS-CLIENT: ", "none is"},
        {SSL_AD_NO_APPLICATION_PROTOCOL, "DRV-TLS-PLAIN: ", "nbd"},
        {SSL_AD_UNRECOGNIZED_NAME, "DRV-TLS-NAME: ", "door.example"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        GError *error = NULL;
        assert_false(drover_tls_fail_alert(&trouble, cases[i].alert, &error));
        expect(error, DROVER_ERROR_PERMANENT, cases[i].prefix, cases[i].text);
        /* The same out of OpenSSL's queue, which is empty afterwards. */
        error = NULL;
        ERR_raise(ERR_LIB_SSL, SSL_AD_REASON_OFFSET + cases[i].alert);
        assert_false(drover_tls_fail(&trouble, SSL_ERROR_SSL, 0, &error));
        expect(error, DROVER_ERROR_PERMANENT, cases[i].prefix, cases[i].text);
        assert_int_equal(ERR_peek_error(), 0);
    }
    GError *error = NULL;
    drover_tls_fail_alert(&trouble, SSL_AD_INTERNAL_ERROR, &error);
    expect(error, DROVER_ERROR_RETRYABLE, "door:443 broke TLS off", "internal error");
    DroverTlsTrouble armed = trouble;
    armed.have_cert = armed.allow_tls12 = true;
    error = NULL;
    drover_tls_fail_alert(&armed, SSL_AD_HANDSHAKE_FAILURE, &error);
    expect(error, DROVER_ERROR_PERMANENT, "DRV-TLS-VERSION: ", "no cipher");
    error = NULL;
    drover_tls_fail_alert(&armed, SSL_AD_PROTOCOL_VERSION, &error);
    expect(error, DROVER_ERROR_PERMANENT, "DRV-TLS-VERSION: ", "or 1.2");
}

static void test_certificates(void **state)
{
    (void)state;
    const struct {
        int code;
        const char *prefix, *text;
    } cases[] = {
        {X509_V_ERR_HOSTNAME_MISMATCH, "DRV-TLS-NAME: ", "door.example, but for other.example"},
        {X509_V_ERR_IP_ADDRESS_MISMATCH, "DRV-TLS-NAME: ", "door.example"},
        {X509_V_ERR_CERT_HAS_EXPIRED, "DRV-TLS-EXPIRED: ", "expired other.example"},
        {X509_V_ERR_CERT_NOT_YET_VALID, "DRV-TLS-EXPIRED: ", "clocks"},
        {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, "DRV-TLS-CA: ", "tls-ca"},
        {X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, "DRV-TLS-CA: ", "tls-ca"},
        {X509_V_ERR_CERT_REVOKED, "DRV-TLS-CERTIFICATE: ", "revoked"},
        {X509_V_ERR_INVALID_PURPOSE, "DRV-TLS-CERTIFICATE: ", "purpose"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        DroverTlsTrouble t = trouble;
        GError *error = NULL;
        t.verify_error = cases[i].code;
        t.detail = " other.example";
        ERR_raise(ERR_LIB_SSL, SSL_R_CERTIFICATE_VERIFY_FAILED);
        assert_false(drover_tls_fail(&t, SSL_ERROR_SSL, 0, &error));
        expect(error, DROVER_ERROR_PERMANENT, cases[i].prefix, cases[i].text);
    }
    DroverTlsTrouble t = trouble;
    GError *error = NULL;
    t.verify_error = X509_V_ERR_HOSTNAME_MISMATCH;
    drover_tls_fail_verify(&t, &error);
    expect(error, DROVER_ERROR_PERMANENT, "DRV-TLS-NAME: ", "but for nobody");
}

/* A connection that ends is worth another try; one that never was TLS is not. */
static void test_ends(void **state)
{
    (void)state;
    DroverTlsTrouble t = trouble;
    GError *error = NULL;
    drover_tls_fail(&t, SSL_ERROR_SYSCALL, ECONNRESET, &error);
    expect(error, DROVER_ERROR_RETRYABLE, "the connection to door:443 broke", "reset");
    error = NULL;
    drover_tls_fail(&t, SSL_ERROR_ZERO_RETURN, 0, &error);
    expect(error, DROVER_ERROR_RETRYABLE, "", "during the TLS handshake");
    error = NULL;
    ERR_raise(ERR_LIB_SSL, SSL_R_WRONG_VERSION_NUMBER);
    drover_tls_fail(&t, SSL_ERROR_SSL, 0, &error);
    expect(error, DROVER_ERROR_PERMANENT, "DRV-TLS-PLAIN: ", "does not answer in TLS");
    error = NULL;
    ERR_raise(ERR_LIB_SSL, SSL_R_UNSUPPORTED_PROTOCOL);
    drover_tls_fail(&t, SSL_ERROR_SSL, 0, &error);
    expect(error, DROVER_ERROR_PERMANENT, "DRV-TLS-VERSION: ", "1.3");
    t.plain_nbd = true;
    error = NULL;
    ERR_raise(ERR_LIB_SSL, SSL_R_WRONG_VERSION_NUMBER);
    drover_tls_fail(&t, SSL_ERROR_SSL, 0, &error);
    expect(error, DROVER_ERROR_PERMANENT, "DRV-TLS-PLAIN: ", "nbds://");
    t.established = true;
    error = NULL;
    ERR_raise(ERR_LIB_SSL, SSL_R_UNEXPECTED_EOF_WHILE_READING);
    drover_tls_fail(&t, SSL_ERROR_SSL, 0, &error);
    expect(error, DROVER_ERROR_RETRYABLE, "", "after the TLS handshake");
    t.got_data = true;
    error = NULL;
    drover_tls_fail(&t, SSL_ERROR_SYSCALL, 0, &error);
    expect(error, DROVER_ERROR_RETRYABLE, "", "closed the connection");
    /* A record that was tampered with: the alert that we would send, no reason to stop for good. */
    error = NULL;
    ERR_raise(ERR_LIB_SSL, SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC);
    drover_tls_fail(&t, SSL_ERROR_SSL, 0, &error);
    expect(error, DROVER_ERROR_RETRYABLE, "TLS with door:443 failed", "mac");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_acknowledged), cmocka_unit_test(test_only_offered_flags_are_taken),
        cmocka_unit_test(test_no_tls_there), cmocka_unit_test(test_alerts),
        cmocka_unit_test(test_certificates), cmocka_unit_test(test_ends),
    };
    OPENSSL_init_ssl(OPENSSL_INIT_LOAD_SSL_STRINGS | OPENSSL_INIT_LOAD_CRYPTO_STRINGS, NULL); /* its error texts */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
