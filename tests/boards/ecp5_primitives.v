// Behavioural models of the ECP5 primitives that the pins and the edge clock tree use, written for the tests from the
// descriptions in FPGA-TN-02035 and FPGA-TN-02200. They show order, grouping and start-up of the data, not delays.

// Stops and starts the edge clock without short pulses.
module ECLKSYNCB(input ECLKI, input STOP, output ECLKO);
    reg [1:0] stop = 2'b11;
    always @(negedge ECLKI) stop <= {stop[0], STOP};
    assign ECLKO = ECLKI & ~stop[1];
endmodule

// Divides by two; a rising edge of ALIGNWD lengthens one period by one input clock. Leaves its reset with a rise on the
// first edge: the start-up that the technical note prescribes (reset ends while the edge clock stands) relies on it.
module CLKDIVF #(parameter DIV = "2.0", parameter GSR = "DISABLED") (
    input CLKI, input RST, input ALIGNWD, output CDIVX
);
    reg divided = 0;
    reg [2:0] align = 0;
    always @(posedge CLKI or posedge RST)
        if (RST) begin
            divided <= 0;
            align <= 0;
        end else begin
            align <= {align[1:0], ALIGNWD};
            if (!(align[1] & ~align[2])) divided <= ~divided;
        end
    assign CDIVX = divided;
endmodule

// Two edge-clock periods, so four bins, to one gear clock. Which of two edge-clock periods is the first of a group
// depends on nothing but the edge on which the reset was left.
module IDDRX2F #(parameter GSR = "ENABLED") (
    input D, input SCLK, input ECLK, input RST, input ALIGNWD, output reg Q0, output reg Q1, output reg Q2, output reg Q3
);
    // As in reset: a reset that is active from the beginning has no edge.
    reg second = 1;
    reg rise = 0;
    reg [1:0] earlier = 0;
    reg [3:0] group = 0;
    always @(posedge ECLK or posedge RST)
        if (RST) second <= 1;
        else begin
            second <= ~second;
            rise <= D;
        end
    always @(negedge ECLK) begin
        if (second) group <= {D, rise, earlier};
        earlier <= {D, rise};
    end
    always @(posedge SCLK or posedge RST)
        if (RST) {Q3, Q2, Q1, Q0} <= 0;
        else {Q3, Q2, Q1, Q0} <= group;
endmodule

// Four bins of one gear clock to two edge-clock periods.
module ODDRX2F #(parameter GSR = "ENABLED") (
    input SCLK, input ECLK, input RST, input D0, input D1, input D2, input D3, output Q
);
    // As in reset: a reset that is active from the beginning has no edge.
    reg second = 1;
    reg [3:0] taken = 0;
    reg [3:0] group = 0;
    reg rise = 0, fall = 0;
    always @(posedge SCLK or posedge RST)
        if (RST) taken <= 0;
        else taken <= {D3, D2, D1, D0};
    always @(posedge ECLK or posedge RST)
        if (RST) begin
            second <= 1;
            rise <= 0;
            fall <= 0;
        end else begin
            second <= ~second;
            {fall, rise} <= second ? group[1:0] : group[3:2];
        end
    always @(negedge ECLK or posedge RST)
        if (RST) group <= 0;
        else if (second) group <= taken;
    assign Q = ECLK ? rise : fall;
endmodule

// A tap is far shorter than a step of these simulations: the signal passes, the steps are counted.
module DELAYF #(parameter DEL_MODE = "USER_DEFINED", parameter DEL_VALUE = 0) (
    input A, input LOADN, input MOVE, input DIRECTION, output Z, output CFLAG
);
    reg [6:0] taps = DEL_VALUE;
    always @(posedge MOVE or negedge LOADN)
        if (!LOADN) taps <= DEL_VALUE;
        else if (DIRECTION ? taps != 0 : taps != 127) taps <= DIRECTION ? taps - 1 : taps + 1;
    assign Z = A;
    assign CFLAG = DIRECTION ? taps == 0 : taps == 127;
endmodule
