/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/yaml-places.h"

#include <stdbool.h>
#include <string.h>
#include <yaml.h>

#define MAX_DEPTH 32

typedef struct {
    bool mapping;
    bool want_key; /* mapping: the next scalar is a key */
    guint index;   /* sequence */
    char *path;    /* of this container */
    char *key;     /* mapping: path of the present key */
} Level;

static void place_clear(gpointer data)
{
    g_free(((DroverYamlPlace *)data)->path);
}

static void add(GArray *places, const char *path, const yaml_event_t *event)
{
    DroverYamlPlace place = {g_strdup(path), (guint)event->start_mark.line + 1};
    g_array_append_val(places, place);
}

/* Path of the value that begins now; newly allocated. */
static char *value_path(GArray *places, Level *level, const yaml_event_t *event)
{
    if (!level)
        return g_strdup("");
    if (level->mapping) {
        level->want_key = true;
        return g_strdup(level->key);
    }
    char *path = g_strdup_printf("%s[%u]", level->path, level->index++);
    add(places, path, event);
    return path;
}

static void take_key(GArray *places, Level *level, const yaml_event_t *event)
{
    const char *name = (const char *)event->data.scalar.value;
    g_free(level->key);
    level->key = *level->path ? g_strconcat(level->path, ".", name, NULL) : g_strdup(name);
    level->want_key = false;
    add(places, level->key, event);
}

static void level_clear(Level *level)
{
    g_free(level->path);
    g_free(level->key);
}

GArray *drover_yaml_places(const char *text)
{
    GArray *places = g_array_new(FALSE, TRUE, sizeof(DroverYamlPlace));
    g_array_set_clear_func(places, place_clear);
    Level stack[MAX_DEPTH];
    int depth = 0;
    yaml_parser_t parser;
    yaml_parser_initialize(&parser);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, strlen(text));
    bool more = true;
    while (more) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event))
            break;
        Level *top = depth ? &stack[depth - 1] : NULL;
        switch (event.type) {
        case YAML_SCALAR_EVENT:
            if (top && top->mapping && top->want_key)
                take_key(places, top, &event);
            else
                g_free(value_path(places, top, &event));
            break;
        case YAML_MAPPING_START_EVENT:
        case YAML_SEQUENCE_START_EVENT: {
            bool mapping = event.type == YAML_MAPPING_START_EVENT;
            more = depth < MAX_DEPTH;
            if (more)
                stack[depth++] = (Level){mapping, mapping, 0, value_path(places, top, &event), NULL};
            break;
        }
        case YAML_MAPPING_END_EVENT:
        case YAML_SEQUENCE_END_EVENT:
            level_clear(&stack[--depth]);
            break;
        case YAML_DOCUMENT_END_EVENT:
        case YAML_STREAM_END_EVENT:
            more = false;
            break;
        case YAML_ALIAS_EVENT:
            g_free(value_path(places, top, &event));
            break;
        case YAML_NO_EVENT:
        case YAML_STREAM_START_EVENT:
        case YAML_DOCUMENT_START_EVENT:
            break;
        }
        yaml_event_delete(&event);
    }
    while (depth > 0)
        level_clear(&stack[--depth]);
    yaml_parser_delete(&parser);
    return places;
}

guint drover_yaml_line(const GArray *places, const char *path)
{
    g_autofree char *at = g_strdup(path);
    for (;;) {
        for (guint i = 0; i < places->len; i++) {
            const DroverYamlPlace *place = &g_array_index(places, DroverYamlPlace, i);
            if (strcmp(place->path, at) == 0)
                return place->line;
        }
        char *cut = strrchr(at, '.');
        char *bracket = strrchr(at, '[');
        cut = cut > bracket ? cut : bracket;
        if (!cut)
            return 0;
        *cut = '\0';
    }
}
