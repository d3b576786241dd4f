// An SDRAM chip as the station's controller uses it: rows of four banks, bursts of one word, CAS latency of two clocks.
// It keeps no times: what the controller must wait for is checked in the gateware's tests.

#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>

namespace {

class Sdram {
public:
    // One clock: a command of the port; sets what the port reads, from `kWay` clocks after the command of a read on.
    void clock(unsigned command, unsigned bank, unsigned address, uint16_t data, uint16_t &read_data) {
        if (coming_ && --coming_ == 0) read_data = word_;
        if (command == kNothing) return;
        if (command == kActivate) rows_[bank] = address;
        const std::size_t place = std::size_t(rows_[bank]) << 11 | bank << 9 | (address & 0x1FF);
        if (command == kWrite) cells()[place] = data;
        if (command == kRead) {
            word_ = cells()[place];
            coming_ = kWay;
        }
    }

private:
    static constexpr unsigned kActivate = 0b011, kWrite = 0b100, kRead = 0b101, kNothing = 0b111;
    static constexpr unsigned kWay = 6;  // two clocks in the chip, the others in the pads; the next read comes later
    static constexpr std::size_t kWords = std::size_t(1) << 24;

    struct Free {
        void operator()(uint16_t *cells) const { std::free(cells); }
    };

    // Most stations never use it, and untouched pages cost nothing.
    uint16_t *cells() {
        if (!cells_) cells_.reset(static_cast<uint16_t *>(std::calloc(kWords, sizeof(uint16_t))));
        return cells_.get();
    }

    std::unique_ptr<uint16_t, Free> cells_;
    uint32_t rows_[4] = {0, 0, 0, 0};
    uint16_t word_ = 0;
    unsigned coming_ = 0;
};

}  // namespace
