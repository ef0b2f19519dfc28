/* SPDX-License-Identifier: Apache-2.0 */
#include "volume-agent/rest/fields.h"

#include <string.h>

#include "lib/base/ids.h"
#include "volume-agent/rest/route.h"

#define SHOWN_NAME 64
#define LONGEST_LISTED 255

static bool wrong(DroverRestProblem *problem, const char *name, const char *what)
{
    drover_rest_problem(problem, 400, "DRV-REST-REQUEST", "Field '%s' %s", name, what);
    return drover_rest_problem_detail(problem, "field", name);
}

static bool is_text(const char *text, json_int_t limit)
{
    for (const char *at = text; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            return false;
    glong len = g_utf8_strlen(text, -1);
    return len >= 1 && len <= limit;
}

static bool check_all(json_t *object, const DroverRestField *table, DroverRestProblem *problem);

static bool check_list(const DroverRestField *field, const json_t *list, DroverRestProblem *problem)
{
    g_autofree char *expected = g_strdup_printf("must be a list of at most %" JSON_INTEGER_FORMAT " %s", field->limit,
                                                field->of ? "objects" : "strings of 1 to 255 characters");
    if (!json_is_array(list) || (json_int_t)json_array_size(list) > field->limit)
        return wrong(problem, field->name, expected);
    size_t i;
    json_t *value;
    json_array_foreach(list, i, value)
    {
        const char *text = json_string_value(value);
        if (field->of ? !json_is_object(value)
                      : !text || strlen(text) != json_string_length(value) || !is_text(text, LONGEST_LISTED))
            return wrong(problem, field->name, expected);
        if (field->of && !check_all(value, field->of, problem))
            return false;
    }
    return true;
}

static bool check(const DroverRestField *field, const json_t *value, DroverRestProblem *problem)
{
    const char *text = json_string_value(value);
    g_autofree char *expected = NULL;
    switch (field->type) {
    case DROVER_FIELD_TEXT:
        if (text && strlen(text) == json_string_length(value) && is_text(text, field->limit))
            return true;
        expected = g_strdup_printf("must be a string of 1 to %" JSON_INTEGER_FORMAT
                                   " characters without control characters",
                                   field->limit);
        return wrong(problem, field->name, expected);
    case DROVER_FIELD_UUID:
        return (text && strlen(text) == json_string_length(value) && drover_rest_is_uuid(text)) ||
               wrong(problem, field->name, "must be a UUID in lower case");
    case DROVER_FIELD_NAME:
        return (text && strlen(text) == json_string_length(value) && drover_id_is_valid(text)) ||
               wrong(problem, field->name, "must be 1 to 64 of letters, digits, '.', '_' and '-'");
    case DROVER_FIELD_NUMBER:
        if (json_is_integer(value) && json_integer_value(value) >= field->minimum &&
            json_integer_value(value) <= field->limit)
            return true;
        expected =
            g_strdup_printf("must be a whole number from %" JSON_INTEGER_FORMAT " to %" JSON_INTEGER_FORMAT,
                            field->minimum, field->limit);
        return wrong(problem, field->name, expected);
    case DROVER_FIELD_LIST:
        return check_list(field, value, problem);
    case DROVER_FIELD_FLAG:
    default:
        return json_is_boolean(value) || wrong(problem, field->name, "must be true or false");
    }
}

static const DroverRestField *find(const DroverRestField *table, const char *name)
{
    for (; table->name; table++)
        if (strcmp(table->name, name) == 0)
            return table;
    return NULL;
}

static bool check_all(json_t *object, const DroverRestField *table, DroverRestProblem *problem)
{
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        const DroverRestField *field = find(table, name);
        if (!field) {
            g_autofree char *shown = g_utf8_substring(name, 0, MIN(g_utf8_strlen(name, -1), SHOWN_NAME));
            return wrong(problem, shown, "is not known here");
        }
        if (!check(field, value, problem))
            return false;
    }
    for (; table->name; table++)
        if (table->required && !json_object_get(object, table->name))
            return wrong(problem, table->name, "is missing");
    return true;
}

json_t *drover_rest_parse_body(const char *body, size_t len, const DroverRestField *table,
                               DroverRestProblem *problem)
{
    json_error_t why;
    json_t *object = len > 0 ? json_loadb(body, len, JSON_REJECT_DUPLICATES, &why) : json_object();
    if (!object)
        drover_rest_problem(problem, 400, "DRV-REST-JSON", "The body is not JSON: %s (line %d, column %d)",
                            why.text, why.line, why.column);
    else if (!json_is_object(object))
        drover_rest_problem(problem, 400, "DRV-REST-JSON", "The body must be a JSON object");
    else if (check_all(object, table, problem))
        return object;
    json_decref(object);
    return NULL;
}

const char *drover_rest_text(const json_t *body, const char *name)
{
    const char *text = json_string_value(json_object_get(body, name));
    return text ? text : "";
}

uint64_t drover_rest_number(const json_t *body, const char *name)
{
    return (uint64_t)json_integer_value(json_object_get(body, name));
}

bool drover_rest_flag(const json_t *body, const char *name)
{
    return json_is_true(json_object_get(body, name));
}
