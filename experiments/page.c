#include "experiments/page.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/files.h"

static void put_escaped(const char *text, FILE *file) {
    for (; *text; text++) {
        switch (*text) {
        case '<':
            fputs("&lt;", file);
            break;
        case '>':
            fputs("&gt;", file);
            break;
        case '&':
            fputs("&amp;", file);
            break;
        case '"':
            fputs("&quot;", file);
            break;
        default:
            fputc(*text, file);
        }
    }
}

static const char head[] =
    "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>atoll report</title>\n"
    "<meta name=\"viewport\" content=\"width=device-width\">\n<style>\n"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 "
    "1em;color:#222;background:#fff}\n"
    "h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}\n"
    "pre{background:#f5f5f5;padding:1em;overflow-x:auto;font-size:13px;line-height:1.45}\n"
    "figure{margin:1em 0}svg{width:100%;height:auto}\n"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums}td,th{padding:.3em .8em;text-align:right;"
    "border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}\n"
    "</style></head><body>\n<h1>atoll report</h1>\n";

static void put_number(double value, int digits, const char *unit, FILE *file) {
    if (isfinite(value))
        fprintf(file, "<td>%.*f%s</td>", digits, value, unit);
    else
        fputs("<td>-</td>", file);
}

/* One line per run: what a reader compares. */
static void put_table(const struct run_set *set, FILE *file) {
    fputs(
        "<table><tr><th>run</th><th>held-out "
        "loss<br>[nats/token]</th><th>[bits/byte]</th><th>payload<br>[MB/worker]</th>"
        "<th>wire<br>[MB/worker]</th><th>bf16 data-parallel<br>[MB/worker]</th><th>fewer<br>bytes</th><th>tokens/s</th>"
        "<th>exposed wait</th><th>restarts</th></tr>\n",
        file);
    for (int i = 0; i < set->count; i++) {
        struct run_summary run;
        summary_of_run(&set->runs[i], &run);
        fputs("<tr><td>", file);
        put_escaped(run.run, file);
        fputs("</td>", file);
        put_number(run.loss, 4, "", file);
        put_number(run.bits_per_byte, 4, "", file);
        put_number((double)run.payload_bytes * 1e-6, 3, "", file);
        put_number((double)run.wire_bytes * 1e-6, 3, "", file);
        put_number((double)run.data_parallel_bytes * 1e-6, 1, "", file);
        put_number(run.ratio_wire, run.ratio_wire < 100 ? 1 : 0, "x", file);
        put_number(run.tokens_per_s, 0, "", file);
        put_number(100 * run.wait_share, 2, " %", file);
        put_number((double)run.restarts, 0, "", file);
        fputs("</tr>\n", file);
    }
    fputs("</table>\n", file);
}

/* The <svg> element of a file, without the XML prolog. */
static enum status put_svg(const char *directory, const char *name, FILE *file, struct error *error) {
    char path[RUN_DATA_PATH_BYTES + CSV_STEM_BYTES + 32];
    snprintf(path, sizeof path, "%s/%s.svg", directory, name);
    uint8_t *bytes;
    size_t count;
    enum status status = files_read(path, 64u << 20, &bytes, &count, error);
    if (status == STATUS_NOT_FOUND) {
        fputs("<p>(no picture: gnuplot did not run)</p>\n", file);
        return STATUS_OK;
    }
    if (status != STATUS_OK)
        return status;
    const char *svg = strstr((const char *)bytes, "<svg");
    fputs(svg ? svg : "<p>(the SVG file is damaged)</p>", file);
    free(bytes);
    return STATUS_OK;
}

static enum status put_table_text(const struct run_set *set, FILE *file, struct error *error) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *memory = open_memstream(&text, &bytes);
    if (!memory)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the page's table");
    summary_print(set, memory);
    fclose(memory);
    put_escaped(text, file);
    free(text);
    return STATUS_OK;
}

enum status page_write(const struct run_set *set, const struct plot_list *list, const char *directory,
                       struct error *error) {
    FILE *file = csv_open(directory, "index.html", error);
    if (!file)
        return error->status;
    fputs(head, file);
    put_table(set, file);
    enum status status = STATUS_OK;
    for (int i = 0; i < list->count && status == STATUS_OK; i++) {
        fputs("<h2>", file);
        put_escaped(list->plots[i].title, file);
        fputs("</h2>\n<figure>", file);
        status = put_svg(directory, list->plots[i].name, file, error);
        fputs("</figure>\n", file);
    }
    fputs("<h2>Workers</h2>\n<pre>", file);
    if (status == STATUS_OK)
        status = put_table_text(set, file, error);
    fputs("</pre>\n<p>Numbers: summary.csv, workers.csv and one set of CSV files per run, beside this page; every "
          "figure has its "
          "gnuplot script (.gp), SVG and PNG. The reference is bf16 data-parallel training of the same steps: every "
          "parameter up "
          "and down once per step, 4 bytes per parameter, step and worker.</p>\n</body></html>\n",
          file);
    enum status closed = csv_close(file, "index.html", error);
    return status != STATUS_OK ? status : closed;
}
