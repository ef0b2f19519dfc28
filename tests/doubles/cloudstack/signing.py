# SPDX-License-Identifier: Apache-2.0
"""Request signatures as ApiServer.verifyRequest checks them.

The server sorts the raw parameter names (case-sensitive), joins name=value with the value encoded by
Java's URLEncoder ('+' turned into '%20'), lower-cases the whole string and compares HMAC-SHA1 in base64.
"""
import base64
import datetime
import hashlib
import hmac

from errors import ApiError, unauthorized

POST_EXPIRY_LIMIT_S = 15 * 60
_SAFE = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-*_")


def java_url_encode(text):
    """URLEncoder.encode(text, UTF-8).replace("+", "%20"): '*' stays, '~' does not."""
    return "".join(chr(b) if b in _SAFE else f"%{b:02X}" for b in text.encode("utf-8"))


def string_to_sign(params):
    """params: raw name -> decoded value; the signature itself is left out, whatever its case."""
    names = sorted(name for name in params if name.lower() != "signature")
    return "&".join(f"{name}={java_url_encode(params[name])}" for name in names).lower()


def sign(params, secret):
    digest = hmac.new(secret.encode(), string_to_sign(params).encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


def parse_expires(text):
    """Seconds since the epoch; ValueError when it is not yyyy-MM-dd'T'HH:mm:ss with a zone."""
    if text.endswith("Z"):
        text = text[:-1] + "+0000"
    return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z").timestamp()


def verify(params, accounts, now, *, enforce_post=False):
    """The account that signed `params`; ApiError 401 when nobody did or the time is over.

    accounts: api key -> account dict with "secret".  With enforce_post (the setting
    enforce.post.requests.and.timestamps) version 3 is a must and expires at most 15 minutes ahead.
    """
    fields = {name.lower(): value for name, value in params.items()}
    key, given = fields.get("apikey"), fields.get("signature")
    if not key or not given:
        raise unauthorized()
    account = accounts.get(key)
    if account is None:
        raise unauthorized()
    if fields.get("signatureversion") == "3":
        try:
            expires = parse_expires(fields.get("expires", ""))
        except ValueError:
            raise unauthorized() from None
        if expires < now or (enforce_post and expires > now + POST_EXPIRY_LIMIT_S):
            raise unauthorized()
    elif enforce_post:
        raise unauthorized()
    if not hmac.compare_digest(given.encode(), sign(params, account["secret"]).encode()):
        raise unauthorized()
    return account


def require_post(command, method):
    """With enforce.post.requests.and.timestamps a change by GET is refused with 400."""
    if method != "POST":
        raise ApiError(400, f"State changing command {command} needs to be sent using POST request", 9999)
