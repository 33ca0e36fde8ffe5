//! Generates `otf_effective_address`: the operand shapes as code.

use inkwell::{
    AddressSpace,
    builder::{Builder, BuilderError},
    context::ContextRef,
    module::Module,
    values::{FunctionValue, IntValue, PointerValue},
};
use otf_artifact::sites::Register;

use crate::shape::{Shape, offset_in_pt_regs};

/// Adds `u64 otf_effective_address(struct pt_regs *ctx, u32 shape)`: a switch over the shapes, by
/// row. A row that does not exist gives 0; the tables hold none.
pub(crate) fn add<'ctx>(
    module: &Module<'ctx>,
    shapes: &[Shape],
) -> Result<FunctionValue<'ctx>, BuilderError> {
    let context = module.get_context();
    let (i32, i64) = (context.i32_type(), context.i64_type());
    let pointer = context.ptr_type(AddressSpace::default());
    let signature = i64.fn_type(&[pointer.into(), i32.into()], false);
    let function = module.add_function("otf_effective_address", signature, None);
    let [ctx, which] = function.get_params()[..] else {
        return Err(BuilderError::UnsetPosition);
    };
    let builder = context.create_builder();
    let entry = context.append_basic_block(function, "entry");
    let other = context.append_basic_block(function, "other");
    let emit = Emit {
        context,
        builder: &builder,
        ctx: ctx.into_pointer_value(),
    };
    let mut cases = Vec::new();
    for (row, shape) in shapes.iter().enumerate() {
        let block = context.append_basic_block(function, "shape");
        builder.position_at_end(block);
        builder.build_return(Some(&emit.shape(*shape)?))?;
        cases.push((i32.const_int(row as u64, false), block));
    }
    builder.position_at_end(other);
    builder.build_return(Some(&i64.const_zero()))?;
    builder.position_at_end(entry);
    builder.build_switch(which.into_int_value(), other, &cases)?;
    Ok(function)
}

struct Emit<'a, 'ctx> {
    context: ContextRef<'ctx>,
    builder: &'a Builder<'ctx>,
    ctx: PointerValue<'ctx>,
}

impl<'ctx> Emit<'_, 'ctx> {
    fn shape(&self, shape: Shape) -> Result<IntValue<'ctx>, BuilderError> {
        let mut address = self.context.i64_type().const_zero();
        if let Some(base) = shape.base {
            address = self.register(base)?;
        }
        if let Some((index, scale)) = shape.index {
            let shift = self.constant(u64::from(scale.trailing_zeros()));
            let scaled = self
                .builder
                .build_left_shift(self.register(index)?, shift, "scaled")?;
            address = self.builder.build_int_add(address, scaled, "address")?;
        }
        if let Some((bit, bytes)) = shape.bit {
            let offset = self.bit_offset(bit, bytes)?;
            address = self.builder.build_int_add(address, offset, "address")?;
        }
        Ok(address)
    }

    /// What a bit string instruction adds: the signed bit index divided by the operand's bits,
    /// rounded down, in operands.
    fn bit_offset(&self, bit: Register, bytes: u8) -> Result<IntValue<'ctx>, BuilderError> {
        let bits = u32::from(bytes) * 8;
        let unused = self.constant(u64::from(64 - bits));
        let high = self
            .builder
            .build_left_shift(self.register(bit)?, unused, "high")?;
        let signed = self
            .builder
            .build_right_shift(high, unused, true, "signed")?;
        let per_operand = self.constant(u64::from(bits.trailing_zeros()));
        let operands = self
            .builder
            .build_right_shift(signed, per_operand, true, "operands")?;
        let size = self.constant(u64::from(bytes.trailing_zeros()));
        self.builder.build_left_shift(operands, size, "bytes")
    }

    /// Reads a register by inline assembly: LLVM would merge the loads of two shapes into one at a
    /// computed offset, which the verifier refuses for a context.
    fn register(&self, register: Register) -> Result<IntValue<'ctx>, BuilderError> {
        let i64 = self.context.i64_type();
        let signature = i64.fn_type(&[self.ctx.get_type().into()], false);
        let load = self.context.create_inline_asm(
            signature,
            format!("$0 = *(u64 *)($1 + {})", offset_in_pt_regs(register)),
            "=r,r".to_owned(),
            false,
            false,
            None,
            false,
        );
        let call = self
            .builder
            .build_indirect_call(signature, load, &[self.ctx.into()], "reg")?;
        // A call of a function type that returns i64 always has a value.
        call.try_as_basic_value()
            .basic()
            .map(inkwell::values::BasicValueEnum::into_int_value)
            .ok_or(BuilderError::UnsetPosition)
    }

    fn constant(&self, value: u64) -> IntValue<'ctx> {
        self.context.i64_type().const_int(value, false)
    }
}
