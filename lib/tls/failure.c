/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/tls/failure.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

#include "lib/base/error.h"

#define PERMANENT DROVER_ERROR_PERMANENT
#define CONFIGURE "(tls-cert, tls-key)"

bool drover_tls_fail_alert(const DroverTlsTrouble *t, int alert, GError **error)
{
    switch (alert) {
    case SSL_AD_CERTIFICATE_REQUIRED:
        return drover_fail(error, PERMANENT,
                           "DRV-TLS-CLIENT: %s asks for a client certificate, and none is configured %s",
                           t->peer, CONFIGURE);
    case SSL_AD_CERTIFICATE_EXPIRED:
        return drover_fail(error, PERMANENT,
                           "DRV-TLS-CLIENT: %s says that our certificate has expired; renew it %s", t->peer,
                           CONFIGURE);
    case SSL_AD_CERTIFICATE_REVOKED:
        return drover_fail(error, PERMANENT, "DRV-TLS-CLIENT: %s says that our certificate is revoked",
                           t->peer);
    case SSL_AD_UNKNOWN_CA:
        return drover_fail(error, PERMANENT,
                           "DRV-TLS-CLIENT: %s does not know the authority that signed our certificate %s",
                           t->peer, CONFIGURE);
    case SSL_AD_BAD_CERTIFICATE:
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_DECRYPT_ERROR:
    case SSL_AD_ACCESS_DENIED:
        return drover_fail(error, PERMANENT, "DRV-TLS-CLIENT: %s refuses our certificate: %s", t->peer,
                           SSL_alert_desc_string_long(alert));
    case SSL_AD_PROTOCOL_VERSION:
        return drover_fail(error, PERMANENT, "DRV-TLS-VERSION: %s does not speak TLS 1.3%s", t->peer,
                           t->allow_tls12 ? " or 1.2" : "; tls-min=1.2 allows the older version");
    case SSL_AD_INSUFFICIENT_SECURITY:
    case SSL_AD_HANDSHAKE_FAILURE:
        if (!t->have_cert)
            return drover_fail(
                error, PERMANENT,
                "DRV-TLS-CLIENT: %s broke the handshake off; it may want a client certificate, and none is "
                "configured %s",
                t->peer, CONFIGURE);
        return drover_fail(error, PERMANENT, "DRV-TLS-VERSION: %s and this program have no cipher in common",
                           t->peer);
    case SSL_AD_NO_APPLICATION_PROTOCOL:
        return drover_fail(error, PERMANENT,
                           "DRV-TLS-PLAIN: %s is not for NBD (it refuses the protocol \"nbd\")", t->peer);
    case SSL_AD_UNRECOGNIZED_NAME:
        return drover_fail(error, PERMANENT, "DRV-TLS-NAME: %s does not know the name %s", t->peer, t->name);
    default:
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "%s broke TLS off: %s", t->peer,
                           SSL_alert_desc_string_long(alert));
    }
}

bool drover_tls_fail_verify(const DroverTlsTrouble *t, GError **error)
{
    const char *detail = t->detail != NULL ? t->detail : "";
    switch (t->verify_error) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return drover_fail(error, PERMANENT, "DRV-TLS-NAME: the certificate of %s is not for %s, but for%s",
                           t->peer, t->name, *detail != '\0' ? detail : " nobody");
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return drover_fail(error, PERMANENT, "DRV-TLS-EXPIRED: the certificate of %s has expired%s", t->peer,
                           detail);
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return drover_fail(error, PERMANENT,
                           "DRV-TLS-EXPIRED: the certificate of %s is not valid yet%s; look at the clocks",
                           t->peer, detail);
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
    case X509_V_ERR_CERT_UNTRUSTED:
        return drover_fail(error, PERMANENT,
                           "DRV-TLS-CA: the certificate of %s is not signed by a known authority%s; tls-ca "
                           "names the file of "
                           "those that count (%s)",
                           t->peer, detail, X509_verify_cert_error_string(t->verify_error));
    default:
        return drover_fail(error, PERMANENT,
                           "DRV-TLS-CERTIFICATE: the certificate of %s cannot be used%s: %s", t->peer, detail,
                           X509_verify_cert_error_string(t->verify_error));
    }
}

static bool fail_closed(const DroverTlsTrouble *t, int system_error, GError **error)
{
    if (system_error != 0)
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "the connection to %s broke: %s", t->peer,
                           g_strerror(system_error));
    if (!t->established)
        return drover_fail(error, DROVER_ERROR_RETRYABLE, "%s closed the connection during the TLS handshake",
                           t->peer);
    if (!t->got_data)
        return drover_fail(
            error, DROVER_ERROR_RETRYABLE,
            "%s closed the connection after the TLS handshake: it does not let this certificate in, or no "
            "NBD server runs behind it",
            t->peer);
    return drover_fail(error, DROVER_ERROR_RETRYABLE, "%s closed the connection", t->peer);
}

bool drover_tls_fail(const DroverTlsTrouble *t, int ssl_error, int system_error, GError **error)
{
    unsigned long code = ERR_peek_error();
    int reason = ERR_GET_LIB(code) == ERR_LIB_SSL ? ERR_GET_REASON(code) : 0;
    ERR_clear_error();
    if (t->plain_nbd && !t->established)
        return drover_fail(error, PERMANENT,
                           "DRV-TLS-PLAIN: %s is an NBD server without TLS, and nothing is sent in plain "
                           "text; TLS that an NBD "
                           "server itself offers is nbds://",
                           t->peer);
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED)
        return drover_tls_fail_verify(t, error);
    if (reason > SSL_AD_REASON_OFFSET && reason <= SSL_AD_REASON_OFFSET + 255)
        return drover_tls_fail_alert(t, reason - SSL_AD_REASON_OFFSET, error);
    switch (reason) {
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
    case SSL_R_UNEXPECTED_MESSAGE:
    case SSL_R_HTTP_REQUEST:
        if (!t->established)
            return drover_fail(error, PERMANENT, "DRV-TLS-PLAIN: %s does not answer in TLS", t->peer);
        break;
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_NO_PROTOCOLS_AVAILABLE:
        return drover_tls_fail_alert(t, SSL_AD_PROTOCOL_VERSION, error);
    case SSL_R_UNEXPECTED_EOF_WHILE_READING:
        return fail_closed(t, 0, error);
    default:
        break;
    }
    if (ssl_error == SSL_ERROR_SYSCALL || ssl_error == SSL_ERROR_ZERO_RETURN || code == 0)
        return fail_closed(t, system_error, error);
    const char *text = ERR_reason_error_string(code);
    return drover_fail(error, DROVER_ERROR_RETRYABLE, "TLS with %s failed: %s", t->peer,
                       text != NULL ? text : "unknown");
}
