//! What all models have in common: a run from a seed, in which things go wrong for a while and then stop
//! going wrong.

use std::fmt;
use std::time::Duration;

use crate::{Agenda, Fault, Network, NodeClock, Random, Trace, draw_fault};

/// How long things go wrong, and how fast one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    /// When the first fault comes.
    pub first: Duration,
    /// How long there are faults.
    pub lasts: Duration,
    /// How long after the storm everything has to be as it should be.
    pub settles: Duration,
    /// How long after that it has to be so still.
    pub stays: Duration,
    /// The longest pause between two faults, in milliseconds.
    pub pause: u64,
    /// By how much all faults and pauses are longer, for runs of weeks.
    pub slower: u32,
}

/// One of the models' worlds.
pub trait Model: Sized {
    /// What happens in it.
    type Event: fmt::Debug;

    /// Time, chance and network of this run.
    fn stage(&mut self) -> &mut Stage<Self::Event>;
    /// How many machines crash, stand still and have clocks, and how many nodes networks are cut between;
    /// the machines are the first of the nodes.
    fn nodes(&self) -> (usize, usize);
    /// A machine's clocks.
    fn clock(&mut self, machine: usize) -> &mut NodeClock;
    /// Something happens.
    fn happens(&mut self, event: Self::Event);
    /// A machine loses its power.
    fn crash(&mut self, machine: usize);
    /// All processes of a machine stand still.
    fn freeze(&mut self, machine: usize);
    /// They go on, if they stood still.
    fn thaw(&mut self, machine: usize);
    /// A machine has power again, if it had none.
    fn boot(&mut self, machine: usize);
    /// Faults are over: the network is well, all machines run, most clocks are right.
    fn calms_down(&mut self) {}
    /// What has to hold when everything has had its time to settle.
    fn check_settled(&self);

    /// Runs it to its end.
    fn play(mut self, storm: Storm) {
        let agenda = &mut self.stage().agenda;
        agenda.after(storm.first, Happening::Fault);
        agenda.after(storm.lasts, Happening::Calm);
        let settled = storm.lasts + storm.settles;
        agenda.after(settled, Happening::Settled);
        agenda.after(settled + storm.stays, Happening::End);
        while let Some(happening) = self.stage().agenda.next_event() {
            match happening {
                Happening::Own(event) => self.happens(event),
                Happening::Fault => fault(&mut self, &storm),
                Happening::Undo(fault) => undo(&mut self, &fault),
                Happening::Calm => calm_down(&mut self),
                Happening::Settled => self.check_settled(),
                Happening::End => return self.check_settled(),
            }
        }
    }
}

/// Time, chance and network of one run.
#[derive(Debug)]
pub struct Stage<E> {
    agenda: Agenda<Happening<E>>,
    /// The run's chance.
    pub random: Random,
    /// Who reaches whom.
    pub network: Network,
    trace: Trace,
    calm: bool,
}

#[derive(Debug)]
enum Happening<E> {
    Own(E),
    Fault,
    Undo(Fault),
    Calm,
    Settled,
    End,
}

impl<E> Stage<E> {
    /// The beginning of a run, with a network as bad as chance has it.
    pub fn new(mut random: Random, trace: &Trace) -> Self {
        let network = Network::bad(&mut random);
        Self { agenda: Agenda::default(), random, network, trace: trace.clone(), calm: false }
    }

    /// The true time since the start of the run.
    pub fn now(&self) -> Duration {
        self.agenda.now()
    }

    /// Lets something happen `delay` from now.
    pub fn after(&mut self, delay: Duration, event: E) {
        self.agenda.after(delay, Happening::Own(event));
    }

    /// Sends a message: it comes late, twice, or not at all.
    pub fn send(&mut self, from: usize, to: usize, message: impl Fn() -> E) {
        for delay in self.network.send(from, to, &mut self.random) {
            self.after(delay, message());
        }
    }

    /// Tells what happens.
    pub fn note(&self, what: fmt::Arguments<'_>) {
        self.trace.note(self.now(), what);
    }

    /// Whether nothing goes wrong any more.
    pub fn is_calm(&self) -> bool {
        self.calm
    }
}

fn fault<M: Model>(model: &mut M, storm: &Storm) {
    let (machines, nodes) = model.nodes();
    let stage = model.stage();
    if stage.calm {
        return;
    }
    let (fault, lasts) = draw_fault(&mut stage.random, machines, nodes);
    let lasts = lasts * storm.slower;
    stage.note(format_args!("fault {fault:?} for {lasts:?}"));
    fault.apply(&mut stage.network, true);
    let pause = stage.random.millis(100, storm.pause) * storm.slower;
    stage.agenda.after(lasts, Happening::Undo(fault.clone()));
    stage.agenda.after(pause, Happening::Fault);
    match fault {
        Fault::Cut(_) => {}
        Fault::Crash(machine) => model.crash(machine),
        Fault::Freeze(machine) => model.freeze(machine),
        Fault::Sleep(machine) => {
            let now = model.stage().now();
            model.clock(machine).sleep(now);
            model.freeze(machine);
        }
        Fault::Jump { machine, ahead, behind } => model.clock(machine).jump(ahead, behind),
    }
}

fn undo<M: Model>(model: &mut M, fault: &Fault) {
    let stage = model.stage();
    if stage.calm {
        return;
    }
    stage.note(format_args!("end of {fault:?}"));
    fault.apply(&mut stage.network, false);
    match fault {
        Fault::Cut(_) => {}
        Fault::Crash(machine) => boot(model, *machine),
        Fault::Freeze(machine) | Fault::Sleep(machine) => thaw(model, *machine),
        Fault::Jump { machine, .. } => model.clock(*machine).jump(Duration::ZERO, Duration::ZERO),
    }
}

fn calm_down<M: Model>(model: &mut M) {
    let (machines, _) = model.nodes();
    let stage = model.stage();
    stage.note(format_args!("the storm is over"));
    stage.calm = true;
    stage.network.calm();
    for machine in 0..machines {
        // Nobody promises that clocks are right in the end.
        if model.stage().random.chance(70) {
            model.clock(machine).jump(Duration::ZERO, Duration::ZERO);
        }
        thaw(model, machine);
        boot(model, machine);
    }
    model.calms_down();
}

fn thaw<M: Model>(model: &mut M, machine: usize) {
    let now = model.stage().now();
    model.clock(machine).wake(now);
    model.thaw(machine);
}

fn boot<M: Model>(model: &mut M, machine: usize) {
    let now = model.stage().now();
    model.clock(machine).wake(now);
    model.boot(machine);
}
