// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Numbers and sizes of the commands.

macro_rules! opcodes {
    ($($(#[$meta:meta])* $name:ident = $number:literal, $units:literal;)*) => {
        /// What a command does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub enum Opcode {
            $($(#[$meta])* $name = $number,)*
        }

        impl Opcode {
            /// Size of the command in units of 8 bytes, header included.
            pub const fn units(self) -> u16 {
                match self {
                    $(Self::$name => $units,)*
                }
            }

            /// The opcode of a number.
            pub const fn from_number(number: u16) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

opcodes! {
    /// Nothing.
    Nop = 0x00, 1;
    /// Fill memory.
    Fill = 0x01, 4;
    /// Copy memory.
    Copy = 0x02, 4;
    /// Compare memory.
    Compare = 0x03, 5;
    /// Write 64 bits.
    Write = 0x04, 3;
    /// Write the time.
    Timestamp = 0x05, 2;
    /// Wait for 64 bits of memory.
    Wait = 0x06, 3;
    /// Multiply matrices.
    Gemm = 0x10, 9;
    /// Add a row to each row.
    Bias = 0x11, 5;
    /// Gaussian error linear unit.
    Gelu = 0x12, 4;
    /// Softmax by row.
    Softmax = 0x13, 4;
    /// Layer norm by row.
    LayerNorm = 0x14, 7;
    /// Pick rows of a table.
    Gather = 0x15, 6;
    /// Attention of each sequence and head.
    Attention = 0x16, 9;
    /// Add element by element.
    Add = 0x17, 5;
    /// Mean over tokens.
    MeanPool = 0x18, 6;
    /// Scale rows to length 1.
    Normalize = 0x19, 4;
}
