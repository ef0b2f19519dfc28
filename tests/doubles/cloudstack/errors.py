# SPDX-License-Identifier: Apache-2.0
"""What the API answers when it refuses: one exception, CloudStack's code pairs, its texts.

The pair is (errorcode, cserrorcode): the first is the HTTP status too, the second tells which Java
exception was thrown.  Inside a job only errorcode and errortext reach the caller.
"""


class ApiError(Exception):
    """A refusal.  `auth` errors carry no cserrorcode and no X-Description header."""

    def __init__(self, code, text, cserror=None, auth=False):
        super().__init__(text)
        self.code = code
        self.text = text
        self.cserror = cserror
        self.auth = auth

    def body(self, command):
        """The JSON body, keyed as the real one keys it."""
        answer = {"uuidList": [], "errorcode": self.code}
        if self.cserror is not None:
            answer["cserrorcode"] = self.cserror
        answer["errortext"] = self.text
        return {command: answer}


def invalid(text):
    """InvalidParameterValueException: 431 (4350)."""
    return ApiError(431, text, 4350)


def parameter(text):
    """ServerApiException of the parameter worker: 431 (9999)."""
    return ApiError(431, text, 9999)


def internal(text):
    """CloudRuntimeException: 530 (4250)."""
    return ApiError(530, text, 4250)


def permission(text="Caller does not have permission to operate with provided resource."):
    """PermissionDeniedException: 531 (4365)."""
    return ApiError(531, text, 4365)


def unauthorized():
    return ApiError(401, "unable to verify user credentials and/or request signature", auth=True)


def missing(command, name):
    return parameter(f"Unable to execute API command {command.lower()} due to missing parameter {name}")


def bad_entity(command, name, value):
    return parameter(
        f"Unable to execute API command {command.lower()} due to invalid value. Invalid parameter {name} "
        f"value={value} due to incorrect long value format, or entity does not exist or due to incorrect "
        "parameter annotation for the field in api cmd class.")


def bad_number(command, name, value):
    return parameter(f"Unable to execute API command {command.lower()} due to invalid value {value} "
                     f"for parameter {name}")


def too_long(command, name, limit):
    return parameter(f"Unable to execute API command {command.lower()} due to invalid value. Value greater "
                     f"than max allowed length {limit} for param: {name}")
