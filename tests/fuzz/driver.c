/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drives a fuzz target without libFuzzer: every file of the corpus, then so many mutations of them, from a seed that is
 * printed. `fuzz_NAME CORPUS-DIR [MUTATIONS [SEED]]`; a file instead of a directory is run alone.
 */
#include <glib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run(const GByteArray *input)
{
    /* A copy of exactly this size, so that the sanitizer sees a read behind its end. */
    g_autofree uint8_t *exact = g_memdup2(input->data, input->len);
    LLVMFuzzerTestOneInput(exact, input->len);
}

static GByteArray *load(const char *path)
{
    g_autofree char *text = NULL;
    gsize len;
    g_autoptr(GError) error = NULL;
    if (!g_file_get_contents(path, &text, &len, &error)) {
        fprintf(stderr, "%s\n", error->message);
        exit(2);
    }
    GByteArray *input = g_byte_array_new();
    g_byte_array_append(input, (const guint8 *)text, (guint)len);
    return input;
}

static void mutate(GByteArray *input, const GPtrArray *corpus, GRand *rand)
{
    static const char *const words[] = {"18446744073709551615", "9223372036854775807", "-1", "0", "\n", "\t", " ", "%00", "%",
                                        "@", ":", "/", "?", "[", "]", "\xff\xff\xff\xff\xff\xff\xff\x7f"};
    for (int n = g_rand_int_range(rand, 1, 6); n > 0; n--) {
        guint at = input->len > 0 ? (guint)g_rand_int_range(rand, 0, (gint32)input->len) : 0;
        switch (g_rand_int_range(rand, 0, 6)) {
        case 0:
            if (input->len > 0)
                input->data[at] ^= (guint8)(1 << g_rand_int_range(rand, 0, 8));
            break;
        case 1:
            if (input->len > 0)
                input->data[at] = (guint8)g_rand_int_range(rand, 0, 256);
            break;
        case 2:
            g_byte_array_set_size(input, at);
            break;
        case 3: {
            const char *word = words[g_rand_int_range(rand, 0, G_N_ELEMENTS(words))];
            guint len = (guint)strlen(word), old = input->len;
            g_byte_array_set_size(input, old + len);
            memmove(input->data + at + len, input->data + at, old - at);
            memcpy(input->data + at, word, len);
            break;
        }
        case 4:
            if (input->len > 0) {
                guint len = (guint)g_rand_int_range(rand, 1, 16);
                g_byte_array_remove_range(input, at, MIN(input->len - at, len));
            }
            break;
        default: {
            const GByteArray *other = corpus->pdata[g_rand_int_range(rand, 0, (gint32)corpus->len)];
            if (other->len > 0 && input->len < 65536)
                g_byte_array_append(input, other->data, (guint)g_rand_int_range(rand, 1, (gint32)other->len + 1));
        }
        }
    }
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: %s CORPUS [MUTATIONS [SEED]]\n", argv[0]);
        return 2;
    }
    long mutations = argc > 2 ? atol(argv[2]) : 0;
    guint32 seed = argc > 3 ? (guint32)strtoul(argv[3], NULL, 10) : g_random_int();
    g_autoptr(GPtrArray) corpus = g_ptr_array_new_with_free_func((GDestroyNotify)g_byte_array_unref);
    g_autoptr(GDir) dir = g_dir_open(argv[1], 0, NULL);
    if (dir == NULL)
        g_ptr_array_add(corpus, load(argv[1]));
    for (const char *name; dir != NULL && (name = g_dir_read_name(dir)) != NULL;) {
        g_autofree char *path = g_build_filename(argv[1], name, NULL);
        g_ptr_array_add(corpus, load(path));
    }
    if (corpus->len == 0) {
        fprintf(stderr, "%s is empty\n", argv[1]);
        return 2;
    }
    for (guint i = 0; i < corpus->len; i++)
        run(corpus->pdata[i]);
    printf("%u files, %ld mutations, seed %u\n", corpus->len, mutations, seed);
    fflush(stdout);
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    for (long i = 0; i < mutations; i++) {
        const GByteArray *from = corpus->pdata[g_rand_int_range(rand, 0, (gint32)corpus->len)];
        g_autoptr(GByteArray) input = g_byte_array_sized_new(from->len + 64);
        g_byte_array_append(input, from->data, from->len);
        mutate(input, corpus, rand);
        run(input);
    }
    return 0;
}
