//! Typed indices into the tables of the artifacts.

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize, schemars::JsonSchema,
        )]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl $name {
            /// The row that this index names.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl From<usize> for $name {
            fn from(row: usize) -> Self {
                Self(u32::try_from(row).expect("a table has fewer than 2^32 rows"))
            }
        }
    )*};
}

id! {
    /// Row of [`crate::analysis::Analysis::types`].
    ObjectTypeId;
    /// Row of [`crate::analysis::Analysis::globals`].
    GlobalId;
    /// Row of [`crate::analysis::Analysis::allocation_sites`].
    AllocationSiteId;
    /// Row of `legal_sets` of the artifact at hand (`Analysis` or `Sites`, which may add unions).
    LegalSetId;
    /// Row of [`crate::analysis::Analysis::targets`].
    TargetId;
    /// Row of `target_sets` of the artifact at hand (`Analysis` or `Sites`, which may add unions).
    TargetSetId;
    /// Row of [`crate::analysis::Analysis::gates`].
    GateId;
    /// Row of [`crate::sites::Sites::images`].
    ImageId;
    /// Row of [`crate::sites::Sites::sites`].
    SiteId;
    /// Row of [`crate::sites::Sites::calls`].
    CallSiteId;
    /// Row of [`crate::recording::Recording::allocations`].
    SeenAllocationId;
}
