/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "lib/base/error.h"
#include "lib/vsphere/fault.h"
#include "lib/vsphere/soap.h"
#include "tests/unit/lib/vsphere/envelope.h"

static DroverSoapAnswer *parse(const char *method, const char *text)
{
    g_autoptr(GError) error = NULL;
    DroverSoapAnswer *answer = drover_soap_answer_parse(method, text, strlen(text), &error);
    if (answer == NULL)
        fail_msg("%s", error->message);
    return answer;
}

static void expect_refused(const char *text, size_t len, int error_class, const char *code)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(DroverSoapAnswer) answer = drover_soap_answer_parse("Login", text, len, &error);
    assert_null(answer);
    assert_non_null(error);
    g_autofree char *found = drover_error_code(error->message);
    assert_string_equal(found, code);
    assert_int_equal(error->code, error_class);
}

static void prefixes_do_not_matter(void **state)
{
    (void)state;
    const char *const texts[] = {
        VCENTER("<LoginResponse xmlns=\"urn:vim25\"><returnval xsi:type=\"UserSession\"><key>52&amp;1</key></returnval></LoginResponse>"),
        GO("<LoginResponse xmlns=\"urn:vim25\"><returnval " GO_TYPE("UserSession") "><key>52&amp;1</key></returnval></LoginResponse>"),
        "<S:Envelope xmlns:S=\"http://schemas.xmlsoap.org/soap/envelope/\" xmlns:v=\"urn:vim25\"><S:Header/><S:Body>"
        "<v:LoginResponse><v:returnval xmlns:t=\"http://www.w3.org/2001/XMLSchema-instance\" t:type=\"v:UserSession\">"
        "<v:key><![CDATA[52&1]]></v:key></v:returnval></v:LoginResponse></S:Body></S:Envelope>"};
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(DroverSoapAnswer) answer = parse("Login", texts[i]);
        const xmlNode *value = drover_soap_answer_value(answer);
        g_autofree char *type = drover_soap_type(value);
        g_autofree char *key = drover_soap_text(value, "key");
        assert_string_equal(type, "UserSession");
        assert_string_equal(key, "52&1");
        assert_null(drover_soap_answer_fault(answer));
    }
}

static void a_type_attribute_of_another_namespace_is_none(void **state)
{
    (void)state;
    g_autoptr(DroverSoapAnswer) answer =
        parse("X", VCENTER("<XResponse xmlns=\"urn:vim25\" xmlns:o=\"urn:o\"><returnval o:type=\"A\" type=\"Task\">t-1"
                           "</returnval><o:key>no</o:key></XResponse>"));
    g_autofree char *type = drover_soap_type(drover_soap_answer_value(answer));
    assert_string_equal(type, "");
    g_autofree char *moref_type = drover_soap_moref_type(drover_soap_answer_value(answer));
    assert_string_equal(moref_type, "Task");
    assert_null(drover_soap_child(drover_soap_answer_response(answer), "key"));
}

#define FULL VCENTER("<LoginResponse xmlns=\"urn:vim25\"><returnval><key>k</key></returnval></LoginResponse>")

static void cut_off_answers_may_come_whole_later(void **state)
{
    (void)state;
    for (size_t len = 0; len < strlen(FULL) - 1; len++)
        expect_refused(FULL, len, DROVER_ERROR_RETRYABLE, "DRV-VCENTER-UNREACHABLE");
}

static void document_types_and_entities_are_refused(void **state)
{
    (void)state;
    const char *const texts[] = {
        "<!DOCTYPE a [<!ENTITY x \"y\">]>" GO("<LoginResponse xmlns=\"urn:vim25\"><returnval>&x;</returnval></LoginResponse>"),
        "<!DOCTYPE a SYSTEM \"file:///etc/passwd\">" GO("<LoginResponse xmlns=\"urn:vim25\"/>"),
        "<!DOCTYPE l [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\"><!ENTITY c \"&b;&b;&b;&b;&b;&b;\">]>"
        "<l>&c;&c;&c;</l>"};
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++)
        expect_refused(texts[i], strlen(texts[i]), DROVER_ERROR_PERMANENT, "DRV-VCENTER-ANSWER");
    const char *undeclared = GO("<LoginResponse xmlns=\"urn:vim25\"><returnval>&x;</returnval></LoginResponse>");
    expect_refused(undeclared, strlen(undeclared), DROVER_ERROR_RETRYABLE, "DRV-VCENTER-UNREACHABLE");
}

static char *nested(int levels)
{
    GString *text = g_string_new("<Envelope xmlns=\"http://schemas.xmlsoap.org/soap/envelope/\"><Body>"
                                 "<LoginResponse xmlns=\"urn:vim25\">");
    for (int i = 0; i < levels; i++)
        g_string_append(text, "<a>");
    for (int i = 0; i < levels; i++)
        g_string_append(text, "</a>");
    g_string_append(text, "</LoginResponse></Body></Envelope>");
    return g_string_free(text, FALSE);
}

static void depth_is_bounded(void **state)
{
    (void)state;
    g_autofree char *fits = nested(DROVER_SOAP_DEPTH_MAX - 3);
    g_autoptr(DroverSoapAnswer) answer = parse("Login", fits);
    assert_non_null(answer);
    int const too_deep[] = {DROVER_SOAP_DEPTH_MAX - 2, 300, 1000000};
    for (guint i = 0; i < G_N_ELEMENTS(too_deep); i++) {
        g_autofree char *text = nested(too_deep[i]);
        expect_refused(text, strlen(text), DROVER_ERROR_PERMANENT, "DRV-VCENTER-ANSWER");
    }
}

static void wide_answers_are_read(void **state)
{
    (void)state;
    g_autoptr(GString) text = g_string_new("<Envelope xmlns=\"http://schemas.xmlsoap.org/soap/envelope/\"><Body>"
                                           "<XResponse xmlns=\"urn:vim25\"><returnval>");
    for (int i = 0; i < 200000; i++)
        g_string_append_printf(text, "<n>%d</n>", i);
    g_string_append(text, "</returnval></XResponse></Body></Envelope>");
    g_autoptr(DroverSoapAnswer) answer = parse("X", text->str);
    int n = 0;
    for (const xmlNode *node = drover_soap_path(drover_soap_answer_value(answer), "n"); node; node = drover_soap_next(node))
        n++;
    assert_int_equal(n, 200000);
}

static void what_is_no_answer_to_the_call_is_refused(void **state)
{
    (void)state;
    const char *const texts[] = {
        GO(""),
        GO("<LogoutResponse xmlns=\"urn:vim25\"/>"),
        GO("<LoginResponse xmlns=\"urn:vim26\"/>"),
    };
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++)
        expect_refused(texts[i], strlen(texts[i]), DROVER_ERROR_PERMANENT, "DRV-VCENTER-ANSWER");
    const char *const others[] = {"<html><body>503 Bad Gateway</body></html>", "<Envelope xmlns=\"urn:other\"><Body/></Envelope>"};
    for (guint i = 0; i < G_N_ELEMENTS(others); i++)
        expect_refused(others[i], strlen(others[i]), DROVER_ERROR_RETRYABLE, "DRV-VCENTER-UNREACHABLE");
}

static void faults_are_told_apart(void **state)
{
    (void)state;
    g_autoptr(DroverSoapAnswer) rights = parse(
        "CreateSnapshot_Task",
        VCENTER("<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>Permission to perform this operation was "
                "denied.</faultstring><detail><NoPermissionFault xmlns=\"urn:vim25\" xsi:type=\"NoPermission\"><object "
                "type=\"VirtualMachine\">vm-7</object><privilegeId>VirtualMachine.State.CreateSnapshot</privilegeId>"
                "</NoPermissionFault></detail></soapenv:Fault>"));
    g_autoptr(GError) error = NULL;
    assert_null(drover_soap_answer_response(rights));
    drover_vsphere_fault_fail(drover_soap_answer_fault(rights), "CreateSnapshot_Task of vm-7", &error);
    assert_string_equal(error->message,
                        "DRV-VCENTER-RIGHTS: vCenter refused CreateSnapshot_Task of vm-7: Permission to perform this operation "
                        "was denied. (NoPermission, privilege VirtualMachine.State.CreateSnapshot, object vm-7)");
    /* Nothing but a type, and that only in the element's name. */
    g_autoptr(DroverSoapAnswer) bare =
        parse("X", GO("<Fault><faultcode>x</faultcode><faultstring></faultstring><detail>"
                      "<NotAuthenticatedFault xmlns=\"urn:vim25\"/></detail></Fault>"));
    assert_true(drover_vsphere_fault_is(drover_soap_answer_fault(bare), "NotAuthenticated"));
    g_autoptr(DroverSoapAnswer) go =
        parse("X", GO("<Fault><faultcode>ServerFaultCode</faultcode><faultstring></faultstring><detail><Fault "
                      "xmlns=\"urn:vim25\" " GO_TYPE("InvalidArgument") "><invalidProperty>changeId</invalidProperty></Fault></detail></Fault>"));
    assert_true(drover_vsphere_fault_is(drover_soap_answer_fault(go), "InvalidArgument"));
    assert_string_equal(drover_soap_answer_fault(go)->property, "changeId");
    g_autoptr(DroverSoapAnswer) chatty = parse(
        "X", GO("<Fault><faultstring>General words.</faultstring><detail><F xmlns=\"urn:vim25\" " GO_TYPE("FileLocked")
                "><faultMessage><key>k</key><message>General words.</message></faultMessage><faultMessage><message>Failed to lock "
                "the file</message></faultMessage></F></detail></Fault>"));
    assert_string_equal(drover_soap_answer_fault(chatty)->message, "General words. Failed to lock the file");
    g_autofree char *long_words = g_strnfill(100000, 'x');
    g_autofree char *text = g_strdup_printf(GO("<Fault><faultstring>%s</faultstring></Fault>"), long_words);
    g_autoptr(DroverSoapAnswer) verbose = parse("X", text);
    assert_in_range(strlen(drover_soap_answer_fault(verbose)->message), 1000, 2000);
    g_autoptr(DroverSoapAnswer) empty = parse("X", GO("<Fault/>"));
    assert_string_equal(drover_soap_answer_fault(empty)->type, "");
}

static void faults_have_classes(void **state)
{
    (void)state;
    static const struct {
        const char *type, *code;
        DroverErrorClass error_class;
    } cases[] = {
        {"InvalidLogin", "DRV-VCENTER-LOGIN", DROVER_ERROR_PERMANENT},
        {"NoPermission", "DRV-VCENTER-RIGHTS", DROVER_ERROR_PERMANENT},
        {"ManagedObjectNotFound", "DRV-VCENTER-GONE", DROVER_ERROR_PERMANENT},
        {"TaskInProgress", "DRV-VCENTER-BUSY", DROVER_ERROR_RETRYABLE},
        {"ConcurrentAccess", "DRV-VCENTER-BUSY", DROVER_ERROR_RETRYABLE},
        {"NoDiskSpace", "DRV-VCENTER-SPACE", DROVER_ERROR_PERMANENT},
        {"InvalidState", "DRV-VCENTER-STATE", DROVER_ERROR_PERMANENT},
        {"InvalidPowerState", "DRV-VCENTER-STATE", DROVER_ERROR_PERMANENT},
        {"ToolsUnavailable", "DRV-VCENTER-STATE", DROVER_ERROR_PERMANENT},
        {"ApplicationQuiesceFault", "DRV-VCENTER-QUIESCE", DROVER_ERROR_PERMANENT},
        {"InvalidArgument", "DRV-VCENTER-ARGUMENT", DROVER_ERROR_PERMANENT},
        {"Timedout", "DRV-VCENTER-TIMEOUT", DROVER_ERROR_RETRYABLE},
        {"HostNotConnected", "DRV-VCENTER-UNREACHABLE", DROVER_ERROR_RETRYABLE},
        {"SystemError", "DRV-VCENTER-FAULT", DROVER_ERROR_RETRYABLE},
        {"NotAuthenticated", "DRV-VCENTER-FAULT", DROVER_ERROR_RETRYABLE},
        {"", "DRV-VCENTER-FAULT", DROVER_ERROR_RETRYABLE},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        DroverErrorClass error_class = 0;
        assert_string_equal(drover_vsphere_fault_code(cases[i].type, &error_class), cases[i].code);
        assert_int_equal(error_class, cases[i].error_class);
    }
}

static void requests_say_what_was_put_in(void **state)
{
    (void)state;
    g_autoptr(DroverSoapWriter) writer = drover_soap_writer_new("X", "VirtualMachine", "vm-1<&>");
    drover_soap_put_text(writer, "name", "a<b>&\"c\" ]]> \x01\xff é\n");
    drover_soap_put_int(writer, "n", INT64_MIN);
    drover_soap_put_open(writer, "set", "Base");
    drover_soap_put_bool(writer, "yes", true);
    drover_soap_put_close(writer);
    size_t len = 0;
    const char *text = drover_soap_writer_end(writer, &len);
    /* What goes out is read back by the reader of answers, with the response's name in place of the request's. */
    g_autofree char *copy = g_strndup(text, len);
    g_auto(GStrv) opened = g_strsplit(copy, "<X ", 2);
    g_autofree char *renamed = g_strjoinv("<XResponse ", opened);
    g_auto(GStrv) closed = g_strsplit(renamed, "</X>", 2);
    g_autofree char *answered = g_strjoinv("</XResponse>", closed);
    g_autoptr(DroverSoapAnswer) answer = parse("X", answered);
    const xmlNode *request = drover_soap_answer_response(answer);
    g_autofree char *this_moref = drover_soap_text(request, "_this");
    assert_string_equal(this_moref, "vm-1<&>");
    g_autofree char *name = drover_soap_text(request, "name");
    assert_string_equal(name, "a<b>&\"c\" ]]> \xef\xbf\xbd\xef\xbf\xbd é\n");
    assert_true(drover_soap_int(request, "n", 0) == INT64_MIN);
    assert_true(drover_soap_bool(request, "set.yes"));
    g_autofree char *type = drover_soap_type(drover_soap_child(request, "set"));
    assert_string_equal(type, "Base");

    g_autoptr(DroverSoapWriter) again = drover_soap_writer_new("Y", "T", "t");
    drover_soap_put_copy(again, drover_soap_child(request, "set"));
    text = drover_soap_writer_end(again, &len);
    assert_non_null(strstr(text, "<set xsi:type=\"Base\"><yes>true</yes></set>"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prefixes_do_not_matter),
        cmocka_unit_test(a_type_attribute_of_another_namespace_is_none),
        cmocka_unit_test(cut_off_answers_may_come_whole_later),
        cmocka_unit_test(document_types_and_entities_are_refused),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(wide_answers_are_read),
        cmocka_unit_test(what_is_no_answer_to_the_call_is_refused),
        cmocka_unit_test(faults_are_told_apart),
        cmocka_unit_test(faults_have_classes),
        cmocka_unit_test(requests_say_what_was_put_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
