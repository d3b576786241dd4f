// Behavioural carry cell (FPGA-TN-02229) and oscillator of the carry chains, without any delay.

module QRELAY_CARRY #(
    parameter [15:0] INIT0 = 0,
    parameter [15:0] INIT1 = 0,
    parameter INJECT1_0 = "NO",
    parameter INJECT1_1 = "NO"
) (
    input CIN, A0, B0, C0, D0, A1, B1, C1, D1,
    output S0, S1, COUT
);
    wire four0 = INIT0[{D0, C0, B0, A0}];
    wire two0 = INIT0[{2'b00, B0, A0}];
    wire carry0 = four0 ? CIN : two0;
    wire four1 = INIT1[{D1, C1, B1, A1}];
    wire two1 = INIT1[{2'b00, B1, A1}];
    assign S0 = four0 ^ CIN;
    assign S1 = four1 ^ carry0;
    assign COUT = four1 ? carry0 : two1;
endmodule

module OSCG #(parameter DIV = 128) (output OSC);
    assign OSC = 1'b0;
endmodule
