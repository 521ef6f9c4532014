/* Decoding a region of a tile: all codes before it are passed over, its blocks alone are
 * transformed, and its px alone are coloured. */
#ifndef JPEGCORE_REGION_H
#define JPEGCORE_REGION_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "colour.h"

/* Copy the scan's data without what is stuffed in, up to its end marker; 0 if there are other
 * markers than belong there. */
static int clean_up(const Job *job, Scratch *scratch) {
    const uint8_t *at = job->data, *end = job->data + job->size;
    uint8_t *out = scratch->clean;
    int intervals = intervals_of(job->header), found = 0;
    while (at < end) {
        const uint8_t *mark = memchr(at, 0xFF, (size_t)(end - at));
        if (!mark || mark + 1 >= end) return 0;
        memcpy(out, at, (size_t)(mark - at));
        out += mark - at;
        at = mark + 2;
        if (mark[1] == 0) {
            *out++ = 0xFF;
            continue;
        }
        if (found == intervals) return 0;
        scratch->ends[found++] = (size_t)(out - scratch->clean);
        if (mark[1] == 0xD9) {
            memset(out, 0, TAIL);
            return found == intervals;
        }
        if (mark[1] != 0xD0 + ((found - 1) & 7)) return 0;
    }
    return 0;
}

INLINE int is_in(const Range *range, int x, int y) {
    return x >= range->x0 && x < range->x1 && y >= range->y0 && y < range->y1;
}

/* MCUs with anything that is needed. */
static Range mcus_under(const Job *job, const Scratch *scratch) {
    Range mcus = {job->header->mcus_x, job->header->mcus_y, 0, 0};
    for (int c = 0; c < job->header->count; c++) {
        const Component *component = &job->header->components[c];
        const Range *blocks = &scratch->planes[c].blocks;
        int x0 = blocks->x0 / component->h, x1 = (blocks->x1 - 1) / component->h + 1;
        int y0 = blocks->y0 / component->v, y1 = (blocks->y1 - 1) / component->v + 1;
        if (x0 < mcus.x0) mcus.x0 = x0;
        if (y0 < mcus.y0) mcus.y0 = y0;
        if (x1 > mcus.x1) mcus.x1 = x1;
        if (y1 > mcus.y1) mcus.y1 = y1;
    }
    return mcus;
}

/* The turns of an MCU: a DC difference and AC coefficients for each block. */
static uint32_t list_turns(const Header *header, int32_t *predictions, Turn *turns) {
    uint32_t count = 0;
    for (int c = 0; c < header->count; c++) {
        const Component *component = &header->components[c];
        const DcTable *dc = &header->dc[component->dc];
        const AcTable *ac = &header->ac[component->ac];
        for (int k = component->h * component->v; k > 0; k--) {
            turns[count++] = (Turn){dc->skip, &predictions[c], &dc->codes};
            turns[count++] = (Turn){ac->skip, &predictions[c], &ac->codes};
        }
    }
    return count;
}

/* Read an MCU: transform its blocks that are needed, pass over the others. */
static int read_mcu(
    const Job *job, const Scratch *scratch, Bits *bits, const Turn *turns, int32_t *predictions,
    int mx, int my
) {
    const Header *header = job->header;
    int16_t block[64] __attribute__((aligned(32)));
    for (int c = 0; c < header->count; c++) {
        const Component *component = &header->components[c];
        const Plane *plane = &scratch->planes[c];
        const DcTable *dc = &header->dc[component->dc];
        const AcTable *ac = &header->ac[component->ac];
        const int x0 = mx * component->h, x1 = x0 + component->h;
        const int y0 = my * component->v, y1 = y0 + component->v;
        for (int y = y0; y < y1; y++) {
            for (int x = x0; x < x1; x++, turns += 2) {
                if (!is_in(&plane->blocks, x, y)) {
                    if (!skip_mcus(bits, turns, 2, 1)) return 0;
                    continue;
                }
                int known = read_block(bits, component, dc, ac, &predictions[c], block);
                if (!known) return 0;
                uint8_t *out = sample_at(plane, plane->edge * x, plane->edge * y);
                if (plane->edge == 8) transform_block(block, known, out, plane->stride);
                else halve_block(block, known, out, plane->stride);
            }
        }
    }
    return 1;
}

/* The first MCU from this one on in which something is needed, in the order of the stream. */
static int next_needed(const Header *header, const Range *mcus, int mcu) {
    int x = mcu % header->mcus_x, y = mcu / header->mcus_x;
    if (y < mcus->y0) x = 0, y = mcus->y0;
    if (x >= mcus->x1) x = 0, y++;
    if (y >= mcus->y1) return header->mcus_x * header->mcus_y;
    return y * header->mcus_x + (x < mcus->x0 ? mcus->x0 : x);
}

/* Read the MCUs of all restart intervals that matter; 0 if the data are damaged. */
static int read_scan_data(const Job *job, Scratch *scratch) {
    const Header *header = job->header;
    Range mcus = mcus_under(job, scratch);
    int all = header->mcus_x * header->mcus_y;
    int each = header->restart_interval ? header->restart_interval : all;
    int first = mcus.y0 * header->mcus_x + mcus.x0;
    int stop = (mcus.y1 - 1) * header->mcus_x + mcus.x1; /* the first that is of no more use */
    for (int interval = 0; interval * each < all; interval++) {
        int from = interval * each, to = from + each < all ? from + each : all;
        if (!job->strict && to <= first) continue;
        if (!job->strict && from >= stop) break;
        const uint8_t *data = scratch->clean + (interval ? scratch->ends[interval - 1] : 0);
        size_t size = (size_t)(scratch->clean + scratch->ends[interval] - data);
        int last = !job->strict && stop < to ? stop : to;
        int32_t predictions[3] = {0, 0, 0};
        Turn turns[12];
        uint32_t count = list_turns(header, predictions, turns);
        Bits bits;
        start_bits(&bits, data, size);
        for (int mcu = from; mcu < last;) {
            int next = next_needed(header, &mcus, mcu);
            if (next > last) next = last;
            if (!skip_mcus(&bits, turns, count, (uint32_t)(next - mcu))) return 0;
            int x = next % header->mcus_x, y = next / header->mcus_x;
            for (mcu = next; mcu < last && is_in(&mcus, x, y); mcu++, x++) {
                if (!read_mcu(job, scratch, &bits, turns, predictions, x, y)) return 0;
            }
        }
        if (last == to ? !is_used_up(&bits, data, size) : !is_enough(&bits, data, size)) return 0;
    }
    return 1;
}

static void colour_region(const Job *job, Scratch *scratch) {
    const Header *header = job->header;
    int x0 = job->region.x0, x1 = job->region.x1, width = x1 - x0;
    for (int y = job->region.y0; y < job->region.y1; y++) {
        uint8_t *out = job->out + (ptrdiff_t)(y - job->region.y0) * job->stride;
        const uint8_t *rows[3] = {NULL, NULL, NULL};
        for (int c = 0; c < header->count; c++) {
            rows[c] = row_of(
                &scratch->planes[c], x0, x1, y, scratch->sums, scratch->stretched[c]
            );
        }
        if (header->count == 1) rows[1] = rows[2] = rows[0];
        if (header->ycbcr) {
            to_rgb(rows[0], rows[1], rows[2], width, scratch->coloured);
            for (int c = 0; c < 3; c++) rows[c] = scratch->coloured[c];
        }
        interleave(rows[0], rows[1], rows[2], width, out);
    }
}

int DECODE(const Job *job, uint8_t *room) {
    Scratch scratch;
    lay_out(job, &scratch, room);
    if (!clean_up(job, &scratch)) return 0;
    if (!read_scan_data(job, &scratch)) return 0;
    colour_region(job, &scratch);
    return 1;
}

#endif
