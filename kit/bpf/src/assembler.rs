//! Instructions and jumps between them (RFC 9669).

use crate::map::Map;

/// One instruction as the kernel reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    value: i32,
}

/// A register. A call reads its arguments from R1 to R5, answers in R0 and leaves R6 to R9 alone; R10 is the
/// end of 512 bytes of stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "they are called what they are")]
pub enum Register {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

/// How much is loaded or stored at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Width {
    /// 4 bytes.
    Word = 0x00,
    /// 2 bytes.
    Half = 0x08,
    /// 1 byte.
    Byte = 0x10,
    /// 8 bytes.
    Double = 0x18,
}

/// What the kernel does for a program; bpf-helpers(7) says what each wants and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Helper {
    /// `bpf_map_lookup_elem`.
    MapLookup = 1,
    /// `bpf_skb_store_bytes`.
    StoreBytes = 9,
    /// `bpf_l3_csum_replace`.
    ReplaceL3Checksum = 10,
    /// `bpf_redirect`.
    Redirect = 23,
    /// `bpf_skb_load_bytes`.
    LoadBytes = 26,
    /// `bpf_skb_change_type`.
    ChangeType = 32,
    /// `bpf_fib_lookup`.
    FibLookup = 69,
    /// `bpf_redirect_peer`, Linux 5.10.
    RedirectPeer = 155,
}

/// A place to jump to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(usize);

/// A program that jumps to nowhere, backwards, or too far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the jump at instruction {0} leads nowhere")]
pub struct AssembleError(usize);

/// Writes a program down.
///
/// ```
/// use kit_bpf::{Assembler, Register::{R0, R1}, Width};
/// let mut code = Assembler::new();
/// let no = code.label();
/// code.load(Width::Word, R1, R1, 0);
/// code.set(R0, 0);
/// code.if_not_equal(R1, 7, no);
/// code.set(R0, 1);
/// code.place(no);
/// code.exit();
/// assert_eq!(code.finish()?.len(), 5);
/// # Ok::<(), kit_bpf::AssembleError>(())
/// ```
#[derive(Debug, Default)]
pub struct Assembler {
    code: Vec<Instruction>,
    /// Which instruction jumps where.
    jumps: Vec<(usize, Label)>,
    /// Where each label is, once it is placed.
    places: Vec<Option<usize>>,
}

const LOAD: u8 = 0x61;
const STORE: u8 = 0x63;
const LOAD_MAP: u8 = 0x18;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const ADD: u8 = 0x07;
const AND: u8 = 0x57;
const AND_REGISTER: u8 = 0x5f;
const OR_REGISTER: u8 = 0x4f;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP: u8 = 0x05;
const IF_EQUAL: u8 = 0x15;
const IF_EQUAL_REGISTER: u8 = 0x1d;
const IF_NOT_EQUAL: u8 = 0x55;
const IF_NOT_EQUAL_REGISTER: u8 = 0x5d;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// In the place of a source register: the value is a map's descriptor.
const IS_A_MAP: u8 = 1;

impl Assembler {
    /// An empty program.
    pub fn new() -> Self {
        Self::default()
    }

    /// A label, to be placed later.
    pub fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    /// Jumps to `label` go to the next instruction. Only forward: then every program ends.
    pub fn place(&mut self, label: Label) {
        self.places[label.0] = Some(self.code.len());
    }

    /// `to = *(base + offset)`, without sign.
    pub fn load(&mut self, width: Width, to: Register, base: Register, offset: i16) {
        self.push(LOAD | width as u8, to, base as u8, offset, 0);
    }

    /// `*(base + offset) = from`.
    pub fn store(&mut self, width: Width, base: Register, offset: i16, from: Register) {
        self.push(STORE | width as u8, base, from as u8, offset, 0);
    }

    /// `to = value`, with sign.
    pub fn set(&mut self, to: Register, value: i32) {
        self.push(MOVE, to, 0, 0, value);
    }

    /// `to = from`.
    pub fn copy(&mut self, to: Register, from: Register) {
        self.push(MOVE_REGISTER, to, from as u8, 0, 0);
    }

    /// `to = address of the map`.
    pub fn map(&mut self, to: Register, map: &Map) {
        self.push(LOAD_MAP, to, IS_A_MAP, 0, map.descriptor());
        self.push(0, Register::R0, 0, 0, 0);
    }

    /// `to = R10 + offset`: the address of something on the stack.
    pub fn on_stack(&mut self, to: Register, offset: i16) {
        self.copy(to, Register::R10);
        self.push(ADD, to, 0, 0, i32::from(offset));
    }

    /// `to &= value`.
    pub fn and(&mut self, to: Register, value: i32) {
        self.push(AND, to, 0, 0, value);
    }

    /// `to &= from`.
    pub fn and_register(&mut self, to: Register, from: Register) {
        self.push(AND_REGISTER, to, from as u8, 0, 0);
    }

    /// `to |= from`.
    pub fn or_register(&mut self, to: Register, from: Register) {
        self.push(OR_REGISTER, to, from as u8, 0, 0);
    }

    /// `to >>= bits`.
    pub fn shift_right(&mut self, to: Register, bits: i32) {
        self.push(SHIFT_RIGHT, to, 0, 0, bits);
    }

    /// Goes to the label.
    pub fn jump(&mut self, label: Label) {
        self.jump_with(JUMP, Register::R0, 0, 0, label);
    }

    /// Goes to the label if they are equal; `value` is compared with sign.
    pub fn if_equal(&mut self, register: Register, value: i32, label: Label) {
        self.jump_with(IF_EQUAL, register, 0, value, label);
    }

    /// Goes to the label if they are equal.
    pub fn if_same(&mut self, register: Register, other: Register, label: Label) {
        self.jump_with(IF_EQUAL_REGISTER, register, other as u8, 0, label);
    }

    /// Goes to the label unless they are equal; `value` is compared with sign.
    pub fn if_not_equal(&mut self, register: Register, value: i32, label: Label) {
        self.jump_with(IF_NOT_EQUAL, register, 0, value, label);
    }

    /// Goes to the label unless they are equal.
    pub fn if_not_same(&mut self, register: Register, other: Register, label: Label) {
        self.jump_with(IF_NOT_EQUAL_REGISTER, register, other as u8, 0, label);
    }

    /// Has the kernel do something; the answer is in R0, and R1 to R5 are lost.
    pub fn call(&mut self, helper: Helper) {
        self.push(CALL, Register::R0, 0, 0, helper as i32);
    }

    /// Ends with R0.
    pub fn exit(&mut self) {
        self.push(EXIT, Register::R0, 0, 0, 0);
    }

    /// The program, with every jump knowing how far.
    pub fn finish(mut self) -> Result<Vec<Instruction>, AssembleError> {
        for (at, label) in &self.jumps {
            let next = at + 1;
            let distance = self.places[label.0].and_then(|place| place.checked_sub(next));
            let distance = distance.and_then(|distance| i16::try_from(distance).ok());
            self.code[*at].offset = distance.ok_or(AssembleError(*at))?;
        }
        Ok(self.code)
    }

    fn jump_with(&mut self, code: u8, register: Register, from: u8, value: i32, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.push(code, register, from, 0, value);
    }

    fn push(&mut self, code: u8, to: Register, from: u8, offset: i16, value: i32) {
        let registers = to as u8 | from << 4;
        self.code.push(Instruction { code, registers, offset, value });
    }
}

#[cfg(test)]
mod tests {
    use super::Register::{R0, R1, R10};
    use super::*;

    #[test]
    fn instructions_have_the_form_of_the_standard() {
        let mut code = Assembler::new();
        let end = code.label();
        code.load(Width::Half, R1, R10, -4);
        code.store(Width::Byte, R10, -8, R1);
        code.if_not_equal(R1, -1, end);
        code.set(R0, 3);
        code.place(end);
        code.exit();
        let bytes: Vec<_> = code
            .finish()
            .unwrap()
            .iter()
            .map(|one| (one.code, one.registers, one.offset, one.value))
            .collect();
        // RFC 9669 §3: LDX|H|MEM, STX|B|MEM, JMP|JNE|K, ALU64|MOV|K, JMP|EXIT.
        let wanted = [
            (0x69, 0xa1, -4, 0),
            (0x73, 0x1a, -8, 0),
            (0x55, 0x01, 1, -1),
            (0xb7, 0x00, 0, 3),
            (0x95, 0x00, 0, 0),
        ];
        assert_eq!(bytes, wanted);
    }

    #[test]
    fn a_jump_to_nowhere_or_backwards_is_an_error() {
        let mut code = Assembler::new();
        let nowhere = code.label();
        code.exit();
        code.jump(nowhere);
        assert_eq!(code.finish().unwrap_err(), AssembleError(1));
        let mut code = Assembler::new();
        let back = code.label();
        code.place(back);
        code.jump(back);
        assert!(code.finish().is_err());
    }
}
