//! Reading instructions: operands in the order of LLVM's, the type of the result.

use crate::bitcode::{
    Error, NONE,
    constants::signed,
    kind::{Kind, Opcode, Row},
    layout::Shape,
    loader::Loader,
};

const BINARY: u32 = 2;
const CAST: u32 = 3;
const EXTRACT_ELEMENT: u32 = 6;
const INSERT_ELEMENT: u32 = 7;
const SHUFFLE: u32 = 8;
const RETURN: u32 = 10;
const BRANCH: u32 = 11;
const SWITCH: u32 = 12;
const UNREACHABLE: u32 = 15;
const PHI: u32 = 16;
const ALLOCA: u32 = 19;
const LOAD: u32 = 20;
const VARIADIC_ARGUMENT: u32 = 23;
const EXTRACT_VALUE: u32 = 26;
const INSERT_VALUE: u32 = 27;
const COMPARE: u32 = 28;
const SELECT: u32 = 29;
const INDIRECT_BRANCH: u32 = 31;
const CALL: u32 = 34;
const FENCE: u32 = 36;
const LOAD_ATOMIC: u32 = 41;
const GEP: u32 = 43;
const STORE: u32 = 44;
const STORE_ATOMIC: u32 = 45;
const COMPARE_EXCHANGE: u32 = 46;
const UNARY: u32 = 56;
const CALL_BRANCH: u32 = 57;
const FREEZE: u32 = 58;
const READ_MODIFY_WRITE: u32 = 59;

/// What an operation on two numbers is.
pub(super) fn binary(code: u64) -> Opcode {
    match code {
        0 => Opcode::Add,
        1 => Opcode::Sub,
        10 => Opcode::And,
        11 => Opcode::Or,
        12 => Opcode::Xor,
        _ => Opcode::Other,
    }
}

/// What a conversion is.
pub(super) fn cast(code: u64) -> Opcode {
    match code {
        1 => Opcode::ZExt,
        2 => Opcode::SExt,
        9 => Opcode::PtrToInt,
        10 => Opcode::IntToPtr,
        11 => Opcode::BitCast,
        12 => Opcode::AddrSpaceCast,
        _ => Opcode::Other,
    }
}

/// An instruction on the way.
struct Instruction {
    opcode: Opcode,
    /// [`NONE`] where it has no value.
    ty: u32,
    more: [u32; 2],
}

impl Instruction {
    fn new(opcode: Opcode, ty: u32) -> Self {
        Self {
            opcode,
            ty,
            more: [NONE; 2],
        }
    }
}

impl Loader<'_> {
    /// The number that the next value of the function gets.
    fn next_number(&self) -> u32 {
        self.module_values.wrapping_add(self.local.len() as u32)
    }

    /// The number of a value that is told relative to the next one.
    fn relative(&self, at: usize) -> Result<u32, Error> {
        // What comes later is a negative distance in 32 bits.
        Ok(self.next_number().wrapping_sub(self.reader.get(at)? as u32))
    }

    /// The type of a value that was read already.
    fn type_of(&self, number: u32) -> Option<u32> {
        let row = match number.checked_sub(self.module_values) {
            None => number,
            Some(own) => *self.local.get(own as usize)?,
        };
        self.module.values.get(row as usize).map(|value| value.ty)
    }

    /// Takes a value, with its type where it comes later; moves `at` on and gives the type.
    fn take(&mut self, at: &mut usize) -> Result<u32, Error> {
        let number = self.relative(*at)?;
        *at += 1;
        let ty = if let Some(known) = self.type_of(number) {
            known
        } else {
            *at += 1;
            self.reader.row(*at - 1)?
        };
        self.module.operands.push(number);
        Ok(ty)
    }

    /// Takes a value whose type is known.
    fn take_known(&mut self, at: &mut usize) -> Result<(), Error> {
        let number = self.relative(*at)?;
        *at += 1;
        self.module.operands.push(number);
        Ok(())
    }

    /// Reads an instruction.
    pub(super) fn instruction(&mut self, code: u32) -> Result<(), Error> {
        let first = self.module.operands.len();
        let new = self.operands(code)?;
        let row = Row {
            first: first as u32,
            count: (self.module.operands.len() - first) as u32,
            ..Row::new(Kind::Instruction(new.opcode), new.ty, new.more)
        };
        let void = new.ty == NONE || matches!(self.module.types.shape(new.ty), Shape::Void);
        if !void {
            self.local.push(self.module.values.len() as u32);
        }
        self.module.values.push(row);
        Ok(())
    }

    fn operands(&mut self, code: u32) -> Result<Instruction, Error> {
        let at = &mut 0;
        let length = self.reader.record.len();
        Ok(match code {
            LOAD | LOAD_ATOMIC => {
                self.take(at)?;
                Instruction::new(Opcode::Load, self.reader.row(*at)?)
            }
            STORE | STORE_ATOMIC => {
                // The address comes first; as an operand it is the second.
                self.take(at)?;
                self.take(at)?;
                let last = self.module.operands.len() - 1;
                self.module.operands.swap(last - 1, last);
                Instruction::new(Opcode::Store, NONE)
            }
            GEP => {
                let source = self.reader.row(1)?;
                *at = 2;
                let ty = self.take(at)?;
                while *at < length {
                    self.take(at)?;
                }
                Instruction {
                    more: [source, NONE],
                    ..Instruction::new(Opcode::GetElementPtr, ty)
                }
            }
            CALL | CALL_BRANCH => self.call(code)?,
            ALLOCA => {
                // Address space 0, as everywhere on this machine.
                let ty = self.module.types.find(&Shape::Pointer(0));
                // The count is a constant, told by its number.
                let count = self.reader.row(2)?;
                self.module.operands.push(count);
                Instruction {
                    more: [self.reader.row(0)?, NONE],
                    ..Instruction::new(Opcode::Alloca, ty)
                }
            }
            BINARY => {
                let ty = self.take(at)?;
                self.take_known(at)?;
                let integers = matches!(self.module.types.shape(ty), Shape::Integer(_));
                let opcode = match self.reader.get(*at)? {
                    code if integers => binary(code),
                    _ => Opcode::Other,
                };
                Instruction::new(opcode, ty)
            }
            CAST => {
                self.take(at)?;
                let opcode = cast(self.reader.get(*at + 1)?);
                Instruction::new(opcode, self.reader.row(*at)?)
            }
            COMPARE => {
                let ty = self.take(at)?;
                self.take_known(at)?;
                let (opcode, result) = match self.module.types.shape(ty) {
                    Shape::Integer(_) | Shape::Pointer(_) => (Opcode::ICmp, Shape::Integer(1)),
                    Shape::Float(_) => (Opcode::Other, Shape::Integer(1)),
                    _ => (Opcode::Other, Shape::Other),
                };
                Instruction::new(opcode, self.module.types.find(&result))
            }
            SELECT => {
                let ty = self.take(at)?;
                self.take_known(at)?;
                self.take(at)?;
                // The condition comes last; as an operand it is the first.
                let last = self.module.operands.len();
                self.module.operands[last - 3..].rotate_right(1);
                Instruction::new(Opcode::Select, ty)
            }
            PHI => {
                // With flags there is one number more.
                for at in (1..length.saturating_sub(1)).step_by(2) {
                    let distance = signed(self.reader.get(at)?) as u32;
                    let number = self.next_number().wrapping_sub(distance);
                    self.module.operands.push(number);
                }
                Instruction::new(Opcode::Phi, self.reader.row(0)?)
            }
            RETURN => {
                if length > 0 {
                    self.take(at)?;
                }
                Instruction::new(Opcode::Ret, NONE)
            }
            _ => self.seldom(code)?,
        })
    }

    fn seldom(&mut self, code: u32) -> Result<Instruction, Error> {
        let at = &mut 0;
        let length = self.reader.record.len();
        let none = Instruction::new(Opcode::Other, NONE);
        Ok(match code {
            BRANCH => {
                if length == 3 {
                    self.take_known(&mut 2)?;
                }
                none
            }
            SWITCH | INDIRECT_BRANCH => {
                self.take_known(&mut 1)?;
                none
            }
            UNREACHABLE | FENCE => none,
            COMPARE_EXCHANGE => {
                self.take(at)?;
                let ty = self.take(at)?;
                self.take_known(at)?;
                let success = self.module.types.find(&Shape::Integer(1));
                let ty = self.module.types.pair(ty, success);
                Instruction::new(Opcode::AtomicCmpXchg, ty)
            }
            READ_MODIFY_WRITE => {
                self.take(at)?;
                let ty = self.take(at)?;
                Instruction::new(Opcode::AtomicRMW, ty)
            }
            EXTRACT_VALUE => {
                let mut ty = self.take(at)?;
                for index in *at..length {
                    ty = self.module.types.inside(ty, self.reader.get(index)?)?;
                }
                Instruction::new(Opcode::ExtractValue, ty)
            }
            INSERT_VALUE => {
                let ty = self.take(at)?;
                self.take(at)?;
                Instruction::new(Opcode::Other, ty)
            }
            FREEZE | UNARY => {
                let ty = self.take(at)?;
                let opcode = if code == FREEZE {
                    Opcode::Freeze
                } else {
                    Opcode::Other
                };
                Instruction::new(opcode, ty)
            }
            VARIADIC_ARGUMENT => {
                self.take_known(&mut 1)?;
                Instruction::new(Opcode::Other, self.reader.row(2)?)
            }
            EXTRACT_ELEMENT => {
                let ty = self.take(at)?;
                self.take(at)?;
                let element = match self.module.types.shape(ty) {
                    Shape::Vector { element, .. } => *element,
                    _ => return Err(Error::Malformed("an element of a vector")),
                };
                Instruction::new(Opcode::Other, element)
            }
            INSERT_ELEMENT => {
                let ty = self.take(at)?;
                self.take_known(at)?;
                self.take(at)?;
                Instruction::new(Opcode::Other, ty)
            }
            SHUFFLE => {
                // The length of the result is that of the mask; nothing asks.
                self.take(at)?;
                self.take_known(at)?;
                self.take(at)?;
                let ty = self.module.types.find(&Shape::Other);
                Instruction::new(Opcode::Other, ty)
            }
            code => return Err(Error::Unknown("an instruction", code.into())),
        })
    }

    /// Attributes, convention, type, what is called, arguments; as an operand what is called comes
    /// last.
    fn call(&mut self, code: u32) -> Result<Instruction, Error> {
        const EXPLICIT_TYPE: u64 = 15;
        const FAST_MATH: u64 = 17;
        let attributes = self.module.attributes.row(self.reader.row(0)?)?;
        let convention = self.reader.get(1)?;
        if convention >> EXPLICIT_TYPE & 1 == 0 {
            return Err(Error::Malformed("the type of a call"));
        }
        let (opcode, mut at) = if code == CALL {
            (
                Opcode::Call,
                2 + usize::from(convention >> FAST_MATH & 1 != 0),
            )
        } else {
            // The block that comes next, the number of others, and these.
            (Opcode::CallBr, 4 + self.reader.row(3)? as usize)
        };
        let ty = self.reader.row(at)?;
        at += 1;
        let first = self.module.operands.len();
        self.take(&mut at)?;
        let (result, parameters, variadic) = self.module.types.function(ty)?;
        for part in parameters {
            let parameter = self.module.types.part(part);
            if matches!(self.module.types.shape(parameter), Shape::Other) {
                // Metadata, which has numbers of its own.
                self.reader.get(at)?;
                self.module.operands.push(NONE);
                at += 1;
            } else {
                self.take_known(&mut at)?;
            }
        }
        while variadic && at < self.reader.record.len() {
            self.take(&mut at)?;
        }
        self.module.operands[first..].rotate_left(1);
        Ok(Instruction {
            opcode,
            ty: result,
            more: [ty, attributes],
        })
    }
}
