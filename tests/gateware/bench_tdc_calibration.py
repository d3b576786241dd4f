"""cocotb: the exported calibration table against its model."""

import cocotb
from clocked import clocked_words
from tdc_cases import table_case
from test_tdc_calibration import check_times


@cocotb.test()
@cocotb.parametrize(seed=[5, 6])
async def times_against_the_model(dut, seed):
    table, codes, valid, hits = table_case(seed, captures=4000)
    seen = await clocked_words(dut, {"hit": hits}, ["timed"], tables={"table": table})
    check_times(seen["timed"], table, codes, valid)
