#include "outer/outer_answer.h"
#include <stdlib.h>
#include <string.h>
#include "comms/message.h"

static char *text_that_fits(const json_t *answer) {
    char *text = json_dumps(answer, JSON_COMPACT);
    if (text == NULL || strlen(text) <= MESSAGE_LONG_TEXT_MAX)
        return text;
    free(text);
    return NULL;
}

char *outer_answer_text(json_t *answer) {
    size_t index;
    json_t *worker;
    char *text = text_that_fits(answer);
    if (text != NULL)
        return text;
    json_array_foreach(json_object_get(answer, "workers"), index, worker) json_object_del(worker, "versions");
    return text_that_fits(answer);
}
