/* SPDX-License-Identifier: BSD-2-Clause */
/* text_words: the only stateful part of text.h. */
#include "kvm/base/text.h"

#include <string.h>
#include "kvm/base/memory.h"

struct reader {
    const char *at;
    char *word; /* being built; as large as the whole text, so it never has to grow */
    size_t length;
};

static int read_single(struct reader *reader, struct error *error)
{
    const char *end = strchr(++reader->at, '\'');
    if (end == NULL)
        return error_set(error, STATUS_USAGE, "a single quote is not closed");
    size_t length = (size_t)(end - reader->at);
    memcpy(reader->word + reader->length, reader->at, length);
    reader->length += length;
    reader->at = end + 1;
    return 0;
}

static int read_double(struct reader *reader, struct error *error)
{
    for (reader->at++; *reader->at != '"'; reader->at++) {
        if (reader->at[0] == '\\' && (reader->at[1] == '"' || reader->at[1] == '\\'))
            reader->at++;
        if (*reader->at == '\0')
            return error_set(error, STATUS_USAGE, "a double quote is not closed");
        reader->word[reader->length++] = *reader->at;
    }
    reader->at++;
    return 0;
}

static bool is_blank(char letter)
{
    return letter == ' ' || letter == '\t' || letter == '\n' || letter == '\r';
}

static int read_word(struct reader *reader, struct error *error)
{
    reader->length = 0;
    while (*reader->at != '\0' && !is_blank(*reader->at)) {
        if (*reader->at == '\'' || *reader->at == '"') {
            bool single = *reader->at == '\'';
            if ((single ? read_single(reader, error) : read_double(reader, error)) < 0)
                return -1;
            continue;
        }
        if (*reader->at == '\\' && *++reader->at == '\0')
            return error_set(error, STATUS_USAGE, "a backslash stands at the end");
        reader->word[reader->length++] = *reader->at++;
    }
    return 0;
}

int text_words(const char *text, char ***words, size_t *count, struct error *error)
{
    AUTO_FREE char *word = memory_zeroed(strlen(text) + 1, 1);
    struct reader reader = {.at = text, .word = word};
    size_t found = 0;
    char **list = memory_zeroed(1, sizeof(list[0]));
    for (;;) {
        while (is_blank(*reader.at))
            reader.at++;
        if (*reader.at == '\0')
            break;
        if (read_word(&reader, error) < 0) {
            text_words_release(list);
            return -1;
        }
        word[reader.length] = '\0';
        list = memory_resize(list, found + 2, sizeof(list[0]));
        list[found++] = memory_copy(word);
        list[found] = NULL;
    }
    *words = list;
    if (count != NULL)
        *count = found;
    return 0;
}

void text_words_release(char **words)
{
    for (char **word = words; word != NULL && *word != NULL; word++)
        free(*word);
    free(words);
}
