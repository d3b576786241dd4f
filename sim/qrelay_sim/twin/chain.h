// A carry chain that is captured: what its flip-flops hold, as `qrelay_sim.tap_chain.TapChain` has it, from the edges at
// its detector's pad or of the oscillator on the die.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <deque>
#include <limits>
#include <vector>

namespace {

constexpr unsigned kTaps = 288;
constexpr double kSlotPs = 1e12 / 304.52e6, kWordPs = 4 * kSlotPs, kBinPs = kSlotPs / 2;
constexpr unsigned kGearRest = 32;       // words until a capture has gone through encoder, table and crossing
constexpr double kPulsePs = 12000;       // a detector's pulse is longer than the chain,
constexpr double kGapPs = 1500;          // and so long low before the next that the encoder sees it
constexpr double kHalfPeriodPs = 1e12 / (2 * 25.8e6) * 1.0173;  // of the oscillator, off its nominal value
constexpr double kPeriodJitterPs = 20;

class Chain {
public:
    // reaches: age in ps at which an edge without jitter is seen by each tap. pad_ps: way from the pad to the chain.
    void set(const double *reaches, double tap_jitter, double edge_jitter, double pad_ps, uint64_t seed) {
        reaches_.assign(reaches, reaches + kTaps);
        first_ = *std::min_element(reaches_.begin(), reaches_.end()) - 8 * tap_jitter;
        last_ = *std::max_element(reaches_.begin(), reaches_.end()) + 8 * tap_jitter;
        tap_jitter_ = tap_jitter;
        edge_jitter_ = edge_jitter;
        pad_ps_ = pad_ps;
        random_ = seed;
    }

    // A word of four slots begins, with one of the two sources.
    void begin_word(double word_ps, bool oscillator) {
        if (oscillator != oscillator_) switch_source(word_ps, oscillator);
        for (; oscillator_ && next_toggle_ < word_ps + kWordPs; next_toggle_ += kHalfPeriodPs + kPeriodJitterPs * normal())
            toggle(next_toggle_);
    }

    // A click at the pad: a pulse. One that begins before the last has ended is none.
    void click(double ps) {
        if (oscillator_ || ps < quiet_from_) return;
        quiet_from_ = ps + kPulsePs + kGapPs;
        toggle(ps + pad_ps_);
        toggle(ps + pad_ps_ + kPulsePs);
    }

    // Bins of a word on the wire to the pad; the first comes at `ps`.
    void wire(double ps, unsigned bins) {
        for (unsigned bin = 0; bin < 8; ++bin) {
            const bool level = bins >> bin & 1;
            if (level == wired_) continue;
            wired_ = level;
            if (!oscillator_) toggle(ps + bin * kBinPs + pad_ps_);
        }
    }

    // Capture the taps at `ps`; whether they differ among each other or from the capture before.
    bool capture(double ps, bool inverted, uint32_t *taps) {
        while (!edges_.empty() && edges_.front() <= ps - last_) {
            edges_.pop_front();
            level_ = !level_;
        }
        if (edges_.empty() || edges_.front() > ps - first_) {
            const bool steady = level_ != inverted, news = !was_steady_ || steady != was_high_;
            was_steady_ = true;
            was_high_ = steady;
            if (news) std::memset(taps, steady ? 0xFF : 0, kTaps / 8);
            return news;
        }
        was_steady_ = false;
        std::memset(taps, 0, kTaps / 8);
        for (unsigned tap = 0; tap < kTaps; ++tap) {
            double seen = ps - reaches_[tap];
            for (const double edge : edges_)
                if (std::abs(edge - seen) < 8 * tap_jitter_) {
                    seen -= tap_jitter_ * normal();
                    break;
                }
            bool level = level_ != inverted;
            for (const double edge : edges_) {
                if (edge > seen) break;
                level = !level;
            }
            taps[tap / 32] |= static_cast<uint32_t>(level) << (tap % 32);
        }
        return true;
    }

private:
    void toggle(double ps) {
        ps += edge_jitter_ * normal();
        if (!edges_.empty()) ps = std::max(ps, edges_.back() + 1);
        edges_.push_back(ps);
    }

    // What the chain has not seen yet of the old source is cut off.
    void switch_source(double ps, bool oscillator) {
        while (!edges_.empty() && edges_.back() > ps) edges_.pop_back();
        const bool present = level_ ^ (edges_.size() & 1);
        oscillator_ = oscillator;
        next_toggle_ = ps + kHalfPeriodPs * uniform();
        quiet_from_ = ps + kPulsePs;
        if (present != (oscillator ? false : wired_)) edges_.push_back(ps);
    }

    // SplitMix64 of Steele, Lea and Flood 2014, and the polar form of Box and Muller.
    double uniform() {
        uint64_t z = random_ += 0x9E3779B97F4A7C15ull;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
        return ((z ^ (z >> 31)) >> 11) * 0x1p-53;
    }
    double normal() {
        const double radius = std::sqrt(-2 * std::log(1 - uniform()));
        return radius * std::cos(6.283185307179586 * uniform());
    }

    std::vector<double> reaches_ = std::vector<double>(kTaps, 0.0);
    double first_ = 0, last_ = 0, tap_jitter_ = 0, edge_jitter_ = 0, pad_ps_ = 0;
    std::deque<double> edges_;  // at the entry of the chain, those that not all taps have seen and later ones
    bool level_ = false;        // before the first of them
    bool wired_ = false, oscillator_ = false, was_steady_ = false, was_high_ = false;
    double next_toggle_ = 0, quiet_from_ = -std::numeric_limits<double>::infinity();
    uint64_t random_ = 0;
};

}  // namespace
