//! Filling a budget with layers.

use std::cmp::Reverse;

use super::Demand;

/// A layer, or none, for each demand.
#[derive(Clone, Debug)]
pub(super) struct Filling<'d> {
    demands: &'d [Demand],
    rungs: Vec<Option<usize>>,
}

impl PartialEq for Filling<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.rungs == other.rungs
    }
}

/// What those layers need together, in bit/s.
pub(super) fn need(demands: &[Demand], rungs: impl IntoIterator<Item = Option<usize>>) -> u64 {
    demands.iter().zip(rungs).map(|(demand, rung)| bitrate(demand, rung)).sum()
}

fn bitrate(demand: &Demand, rung: Option<usize>) -> u64 {
    rung.and_then(|rung| demand.rungs.get(rung)).map_or(0, |rung| rung.bitrate)
}

impl<'d> Filling<'d> {
    /// What is sent now.
    pub(super) fn new(demands: &'d [Demand]) -> Self {
        let current = |demand: &Demand| demand.current.filter(|rung| *rung < demand.rungs.len());
        Self { demands, rungs: demands.iter().map(current).collect() }
    }

    pub(super) fn into_rungs(self) -> Vec<Option<usize>> {
        self.rungs
    }

    pub(super) fn need(&self) -> u64 {
        need(self.demands, self.rungs.iter().copied())
    }

    /// The largest layer of each demand.
    pub(super) fn most(&self) -> impl Iterator<Item = Option<usize>> + 'd {
        self.demands.iter().map(|demand| demand.rungs.len().checked_sub(1))
    }

    /// What is sent now, cut down to the budget: nothing becomes larger.
    pub(super) fn refill(&mut self, budget: u64) {
        let most: Vec<_> = self.rungs.iter_mut().map(Option::take).collect();
        self.fill(budget, |index| most[index]);
    }

    /// Whether a picture that is sent now gets nothing.
    pub(super) fn hides(&self) -> bool {
        self.demands
            .iter()
            .zip(&self.rungs)
            .any(|(demand, rung)| demand.bitrate().is_some() && rung.is_none())
    }

    /// Gives its smallest layer to each of those pictures that is sent now and would get nothing.
    pub(super) fn show(&mut self, of: impl Fn(&Demand) -> bool) {
        for (demand, rung) in self.demands.iter().zip(&mut self.rungs) {
            if demand.bitrate().is_some() && rung.is_none() && of(demand) {
                *rung = Some(0);
            }
        }
    }

    /// Takes larger layers, as far as the budget reaches, for those demands.
    pub(super) fn raise(&mut self, budget: u64, of: impl Fn(&Demand) -> bool) {
        let demands = self.demands;
        let now = self.rungs.clone();
        self.fill(budget, |index| {
            let demand = &demands[index];
            if of(demand) { demand.rungs.len().checked_sub(1) } else { now[index] }
        });
    }

    /// What would be needed in all with the next larger layer; `None` if there is none.
    pub(super) fn next(&self) -> Option<u64> {
        let most: Vec<_> = self.most().collect();
        let (index, rung) = self.order().find_map(|group| {
            let missing = group.iter().find(|index| self.rungs[**index].is_none() && most[**index].is_some());
            missing.map(|index| (*index, 0)).or_else(|| self.best(&group, u64::MAX, |index| most[index]))
        })?;
        let current = bitrate(&self.demands[index], self.rungs[index]);
        Some(self.need() - current + bitrate(&self.demands[index], Some(rung)))
    }

    /// First the smallest layer of each, then the steps that show most for a bit; those of a higher priority before the others.
    fn fill(&mut self, budget: u64, most: impl Fn(usize) -> Option<usize>) {
        let mut need = self.need();
        for index in self.order().flatten().collect::<Vec<_>>() {
            let smallest = bitrate(&self.demands[index], Some(0));
            if self.rungs[index].is_none() && most(index).is_some() && need + smallest <= budget {
                self.rungs[index] = Some(0);
                need += smallest;
            }
        }
        for group in self.order().collect::<Vec<_>>() {
            while let Some((index, rung)) = self.best(&group, budget.saturating_sub(need), &most) {
                need = need - bitrate(&self.demands[index], self.rungs[index])
                    + bitrate(&self.demands[index], Some(rung));
                self.rungs[index] = Some(rung);
            }
        }
    }

    /// The step up, of demands that have a layer already, that shows most for a bit and costs no more than that.
    fn best(
        &self,
        group: &[usize],
        left: u64,
        most: impl Fn(usize) -> Option<usize>,
    ) -> Option<(usize, usize)> {
        let mut best: Option<(f64, (usize, usize))> = None;
        for &index in group {
            let (Some(current), Some(most)) = (self.rungs[index], most(index)) else { continue };
            let rungs = &self.demands[index].rungs;
            for (rung, step) in rungs.iter().enumerate().take(most + 1).skip(current + 1) {
                let cost = step.bitrate.saturating_sub(rungs[current].bitrate);
                let gain = (step.value - rungs[current].value) / cost.max(1) as f64;
                if cost <= left && best.is_none_or(|(known, _)| gain > known) {
                    best = Some((gain, (index, rung)));
                }
            }
        }
        best.map(|(_, step)| step)
    }

    /// Groups of equal priority, the highest first.
    fn order(&self) -> impl Iterator<Item = Vec<usize>> + use<> {
        let mut indices: Vec<_> = (0..self.demands.len()).collect();
        indices.sort_by_key(|index| Reverse(self.demands[*index].priority));
        let groups: Vec<Vec<_>> = indices
            .chunk_by(|a, b| self.demands[*a].priority == self.demands[*b].priority)
            .map(<[_]>::to_vec)
            .collect();
        groups.into_iter()
    }
}
