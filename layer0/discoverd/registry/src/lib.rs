//! Services, instances, leaders and metadata as a pure state machine.
