// Steps one station, compiled by Verilator, through a batch of words, and carries its pins and its byte link.
//
// Plain C interface for ctypes, which releases the interpreter lock for the whole batch. One call processes `words`
// clocks, each one evaluation of the model: outputs are read as the registers show them before the rising edge, and the
// edge then acts with the inputs of this word.

#include <cstdint>
#include <cstring>

#include "Vstation.h"
#include "Vstation___024root.h"
#include "sdram.h"
#include "verilated.h"
#ifdef QRELAY_TDC
#include "chain.h"
#endif

// Verilator writes the second underscore of Amaranth's stream ports as a number.
#define LINK(port, member) port##___05F##member

namespace {

constexpr unsigned kDetectors = 4, kBinsPerWord = 8, kBinFines = 128;

struct Station {
    VerilatedContext context;
    Vstation top{&context, "station"};
    uint64_t noise;  // state of the noise source
    uint64_t external;  // state of the source of external bits
    Sdram sdram;
    uint64_t past[kDetectors] = {0, 0, 0, 0};  // latest bins on the wire to each detector, the newest in the top bit
#ifdef QRELAY_TDC
    Chain chains[kDetectors];
    uint64_t words = 0;
    unsigned gear_words = kGearRest;  // words for which the gear clock goes on
#endif
};

// Collect, for one slot of a word, the two bins of each of the eight lines into 16 bits (line i at bits 2i, 2i+1).
inline uint16_t slot_bins(uint64_t lines, unsigned lane) {
    uint64_t x = (lines >> (2 * lane)) & 0x0303030303030303ull;
    x = (x | (x >> 6)) & 0x000F000F000F000Full;
    x = (x | (x >> 12)) & 0x000000FF000000FFull;
    return static_cast<uint16_t>(x | (x >> 24));
}

// Bits of the port `clocked`, in the order of GATED_BLOCKS.
constexpr unsigned kLink = 1, kEvents = 2, kKeystream = 4, kReceiver = 8, kEntropy = 16,
                   kHistograms = 32, kExternal = 64;

inline void forget_clocks(Vstation___024root &root) {
    root.__Vtrigprevexpr___TOP__clk__0 = 0;
    root.__Vtrigprevexpr___TOP__link_clk__0 = 0;
    root.__Vtrigprevexpr___TOP__events_clk__0 = 0;
    root.__Vtrigprevexpr___TOP__keystream_clk__0 = 0;
    root.__Vtrigprevexpr___TOP__receiver_clk__0 = 0;
    root.__Vtrigprevexpr___TOP__entropy_clk__0 = 0;
    root.__Vtrigprevexpr___TOP__histograms_clk__0 = 0;
    root.__Vtrigprevexpr___TOP__external_clk__0 = 0;
#ifdef QRELAY_TDC
    root.__Vtrigprevexpr___TOP__gear_clk__0 = 0;
#endif
}

#ifdef QRELAY_TDC
// The edge of the gear clock in the middle of a word: no other clock rises.
inline void middle_of_word(Vstation &top) {
    auto &root = *top.rootp;
    root.__Vtrigprevexpr___TOP__clk__0 = top.clk;
    root.__Vtrigprevexpr___TOP__link_clk__0 = top.link_clk;
    root.__Vtrigprevexpr___TOP__events_clk__0 = top.events_clk;
    root.__Vtrigprevexpr___TOP__keystream_clk__0 = top.keystream_clk;
    root.__Vtrigprevexpr___TOP__receiver_clk__0 = top.receiver_clk;
    root.__Vtrigprevexpr___TOP__entropy_clk__0 = top.entropy_clk;
    root.__Vtrigprevexpr___TOP__histograms_clk__0 = top.histograms_clk;
    root.__Vtrigprevexpr___TOP__external_clk__0 = top.external_clk;
    top.gear_clk = 1;
    top.eval();
    forget_clocks(root);
}

// Taps of all chains at time `ps`; whether one of them sees an edge, or another level than the capture before.
inline bool capture_chains(Station &station, double ps, unsigned inverted) {
    auto &top = station.top;
    uint32_t *const taps[kDetectors] = {top.taps_0.data(), top.taps_1.data(), top.taps_2.data(), top.taps_3.data()};
    bool news = false;
    for (unsigned d = 0; d < kDetectors; ++d) news |= station.chains[d].capture(ps, inverted >> d & 1, taps[d]);
    return news;
}
#endif

// SplitMix64 of Steele, Lea and Flood 2014.
inline uint64_t mixed(uint64_t &state) {
    uint64_t z = state += 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

// The simulated noise source: a coin thrown for every word.
inline bool coin(uint64_t &state, uint64_t ones) { return (mixed(state) >> 32) < ones; }

#ifndef QRELAY_TDC
constexpr unsigned kHitBits = 9;  // valid, fine

inline void put_hit(uint32_t *port, unsigned place, unsigned fine) {
    const uint32_t hit = 1u | (fine << 1);
    const unsigned bit = place * kHitBits;
    port[bit / 32] |= hit << (bit % 32);
    if (bit % 32 + kHitBits > 32) port[bit / 32 + 1] |= hit >> (32 - bit % 32);
}

// Rising edges (falling where inverted) of the word that left the end of a wire, as hits; at most one per slot.
inline bool wire_word(uint32_t *port, uint64_t &past, unsigned detector, unsigned bins, unsigned delay, bool inverted) {
    past = past >> kBinsPerWord | static_cast<uint64_t>(bins) << (64 - kBinsPerWord);
    const unsigned newest = 64 - kBinsPerWord - 2 * delay;
    uint64_t levels = past >> (newest - 1);  // the bin before the word, then its bins
    if (inverted) levels = ~levels;
    bool any = false;
    for (unsigned bin = 0; bin < kBinsPerWord; ++bin) {
        if ((levels >> bin & 3) != 2) continue;
        put_hit(port, 4 * detector + bin / 2, kBinFines * (bin & 1) + kBinFines / 2);
        any = true;
    }
    return any;
}
#endif

}  // namespace

extern "C" {

struct Pulse {      // a start pulse: word of the batch and the bins that are high in it
    uint32_t word;
    uint32_t bins;
};

struct Hit {        // a detector edge: word of the batch, 4 * detector + lane, and its fine time
    uint32_t word;
    uint16_t place;
    uint16_t fine;
};

struct Batch {
    uint32_t words;
    uint32_t clock_inputs;       // bit 0 clock locked, 1 external reference, 2 reference lost, 3 lock lost, 4 phase slipped
    const Hit *hits;             // ordered by word
    uint32_t hit_count;
    uint32_t start_count;
    const Pulse *starts;         // ordered by word
    const uint8_t *rx;
    uint32_t rx_size;
    uint32_t rx_used;            // out: bytes that the station took
    uint8_t *tx;
    uint32_t tx_size;
    uint32_t tx_used;            // out: bytes that the station sent
    uint16_t *slot_lines;        // out: line bins of each slot (4 * words), or null
    const uint8_t *code_of_bins; // 65536 entries, or null
    uint8_t *slot_codes;         // out: code_of_bins applied to each slot (4 * words), or null
    Pulse *start_pulses;         // out: words in which the start output was high
    uint32_t start_pulse_size;
    uint32_t start_pulse_used;
    uint64_t probe_highs;        // out: slots in which the probe output was high
    uint32_t running;            // out: the station is armed or running
    uint32_t clock_all;          // clock every block in every word
    uint64_t noise_ones;         // the noise source is high with this probability, in 2^-32
    const int8_t *wires;         // line wired to each detector, -1 none; null: no wires at all
    const uint8_t *wire_slots;   // delay of each wire, 0..24 slots
    uint32_t external_valid;     // there are external bits in these words
};

void *qrelay_station_new(uint64_t seed) {
    auto *station = new Station;
    station->noise = seed;
    station->external = ~seed;
    auto &top = station->top;
#ifdef QRELAY_TDC
    top.gear_clk = top.capture = 0;
#endif
    top.clk = top.link_clk = top.events_clk = top.keystream_clk = top.receiver_clk = top.entropy_clk =
        top.histograms_clk = 0;
        top.external_clk = 0;
    top.LINK(rx, valid) = 0;
    top.LINK(tx, ready) = 0;
    top.start_bins = 0;
    top.noise = 0;
    top.external_bits = top.external_valid = 0;
    top.LINK(sdram, read_data) = 0;
    std::memset(&top.hits, 0, sizeof top.hits);
    top.eval();
    top.clk = 1;
    return station;
}

#ifdef QRELAY_TDC
// Give detector `d` its chain: see `twin.station.ChainModel`.
void qrelay_station_chain(void *handle, uint32_t d, const double *reaches, double tap_jitter, double edge_jitter,
                          double pad_ps, uint64_t seed) {
    static_cast<Station *>(handle)->chains[d].set(reaches, tap_jitter, edge_jitter, pad_ps, seed);
}
#endif

void qrelay_station_delete(void *handle) { delete static_cast<Station *>(handle); }

void qrelay_station_step(void *handle, Batch *batch) {
    auto &station = *static_cast<Station *>(handle);
    auto &top = station.top;
    uint64_t &noise = station.noise;
    auto *port = reinterpret_cast<uint32_t *>(&top.hits);
    const Hit *hit = batch->hits, *const hits_end = hit + batch->hit_count;
    const Pulse *start = batch->starts, *const starts_end = start + batch->start_count;
    uint32_t rx_used = 0, tx_used = 0, pulses = 0;
    uint64_t probe_highs = 0;
    uint64_t last_lines = 0;
    uint16_t bins[4] = {0, 0, 0, 0};
    const unsigned clock_all = batch->clock_all ? kLink | kEvents | kKeystream | kReceiver | kEntropy | kHistograms : 0;
    bool hits_set = true, starts_set = true, first = true;

    top.clock_locked = batch->clock_inputs & 1;
    top.external_reference = batch->clock_inputs >> 1 & 1;
    top.reference_lost = batch->clock_inputs >> 2 & 1;
    top.lock_lost = batch->clock_inputs >> 3 & 1;
    top.phase_slipped = batch->clock_inputs >> 4 & 1;

    top.external_valid = batch->external_valid;

    for (uint32_t word = 0; word < batch->words; ++word) {
#ifdef QRELAY_TDC
        const double word_ps = station.words++ * kWordPs;
        for (unsigned d = 0; d < kDetectors; ++d) station.chains[d].begin_word(word_ps, top.oscillator >> d & 1);
        for (; hit != hits_end && hit->word == word; ++hit)
            station.chains[hit->place / 4].click(word_ps + (hit->place % 4 + (hit->fine + 0.5) / 256) * kSlotPs);
        const unsigned upside_down = batch->wires ? 0 : top.hits_inverted & ~top.oscillator;
        if (batch->wires) {
            const uint64_t lines = top.lines;
            for (unsigned d = 0; d < kDetectors; ++d) {
                const unsigned bins = batch->wires[d] < 0 ? 0 : lines >> (kBinsPerWord * batch->wires[d]) & 0xFF;
                station.chains[d].wire(word_ps + batch->wire_slots[d] * kSlotPs, bins);
            }
        }
#endif
        if (hits_set) {
            std::memset(port, 0, sizeof top.hits);
            hits_set = false;
        }
#ifndef QRELAY_TDC
        for (; hit != hits_end && hit->word == word; ++hit) {
            put_hit(port, hit->place, hit->fine);
            hits_set = true;
        }
        if (batch->wires) {
            // The lines show the registers' outputs: a wire without delay brings them to the inputs in the same word.
            const uint64_t lines = top.lines;
            for (unsigned d = 0; d < kDetectors; ++d) {
                if (batch->wires[d] < 0) continue;
                const unsigned bins = lines >> (kBinsPerWord * batch->wires[d]) & 0xFF;
                const bool inverted = top.hits_inverted >> d & 1;
                hits_set |= wire_word(port, station.past[d], d, bins, batch->wire_slots[d], inverted);
            }
        }
#endif
        if (starts_set) {
            top.start_bins = 0;
            starts_set = false;
        }
        for (; start != starts_end && start->word == word; ++start) {
            top.start_bins |= start->bins;
            starts_set = true;
        }
        top.noise = coin(noise, batch->noise_ones);
        if (batch->external_valid) top.external_bits = mixed(station.external) >> 60;
        station.sdram.clock(top.LINK(sdram, command), top.LINK(sdram, bank), top.LINK(sdram, address),
                            top.LINK(sdram, data), top.LINK(sdram, read_data));
        const bool rx_valid = rx_used < batch->rx_size;
        top.LINK(rx, valid) = rx_valid;
        if (rx_valid) top.LINK(rx, payload) = batch->rx[rx_used];
        const bool tx_ready = tx_used < batch->tx_size;
        top.LINK(tx, ready) = tx_ready;
        // What the station offers and accepts follows from its registers alone, so it can be read before the edge.
        if (rx_valid && top.LINK(rx, ready)) ++rx_used;
        if (tx_ready && top.LINK(tx, valid)) batch->tx[tx_used++] = top.LINK(tx, payload);
        if (top.start_out && pulses < batch->start_pulse_size) batch->start_pulses[pulses++] = {word, top.start_out};
        if (top.probe) probe_highs += __builtin_popcount(top.probe);
        if (batch->slot_lines || batch->slot_codes) {
            const uint64_t lines = top.lines;
            if (first || lines != last_lines) {
                for (unsigned lane = 0; lane < 4; ++lane) bins[lane] = slot_bins(lines, lane);
                last_lines = lines;
                first = false;
            }
            if (batch->slot_lines) std::memcpy(batch->slot_lines + 4 * word, bins, sizeof bins);
            if (batch->slot_codes)
                for (unsigned lane = 0; lane < 4; ++lane)
                    batch->slot_codes[4 * word + lane] = batch->code_of_bins[bins[lane]];
        }
        const unsigned clocked = top.clocked | clock_all;
        top.link_clk = (clocked & kLink) != 0;
        top.events_clk = (clocked & kEvents) != 0;
        top.keystream_clk = (clocked & kKeystream) != 0;
        top.receiver_clk = (clocked & kReceiver) != 0;
        top.entropy_clk = (clocked & kEntropy) != 0;
        top.histograms_clk = (clocked & kHistograms) != 0;
        top.external_clk = (clocked & kExternal) != 0;
#ifdef QRELAY_TDC
        if (clocked & kLink) station.gear_words = kGearRest;  // settings and tables may be on their way
        if (capture_chains(station, word_ps, upside_down)) station.gear_words = kGearRest;
        if (station.gear_words || clock_all) {
            top.capture = 1;
            middle_of_word(top);
        }
        if (capture_chains(station, word_ps + kWordPs / 2, upside_down)) station.gear_words = kGearRest;
        top.capture = 0;
        top.gear_clk = station.gear_words || clock_all;
        if (station.gear_words) --station.gear_words;
#endif
        top.eval();
        // The falling edges do nothing: let the model forget that the clocks are high, instead of evaluating them.
        forget_clocks(*top.rootp);
    }
    batch->rx_used = rx_used;
    batch->tx_used = tx_used;
    batch->start_pulse_used = pulses;
    batch->probe_highs = probe_highs;
    batch->running = top.armed || top.running;
#ifdef QRELAY_TDC
    batch->running |= top.oscillator != 0;  // code density is counted: time matters
#endif
}
}
