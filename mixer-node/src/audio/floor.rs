//! Who has the floor: whose sound is decoded and mixed. Those who are silent are not, and of the others the loudest are.

use super::loudness::Loudness;

/// Of how many the sound is mixed at most; of more at once nobody understands a word.
const MOST: usize = 16;
/// How much louder another must be than who has the floor, to take it: 6 dB.
const ADVANTAGE: f32 = 4.0;

/// What is known of an input when the floor is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bid {
    /// Whether it had the floor.
    pub(super) had: bool,
    /// Whether it wants it: is not silent.
    pub(super) wants: bool,
    /// None: nothing tells but decoding.
    pub(super) power: Option<f32>,
}

impl Bid {
    pub(super) fn new(had: bool, silent: bool, loudness: &Loudness) -> Self {
        Self { had, wants: !silent, power: loudness.is_known().then(|| loudness.power()) }
    }

    /// None: it is heard in any case, for nothing else tells whether he speaks.
    fn rank(&self) -> Option<f32> {
        self.power.map(|power| if self.had { power * ADVANTAGE } else { power })
    }
}

/// Gives the floor: tells of each of the bids, in their order, whether it has it. `ranks` is kept from one time to the next.
pub(super) fn give(bids: &[Bid], ranks: &mut Vec<f32>) -> impl FnMut(&Bid) -> bool + use<> {
    ranks.clear();
    ranks.extend(bids.iter().filter(|bid| bid.wants).filter_map(Bid::rank));
    let (least, mut places) = if ranks.len() > MOST {
        // The rank of the last of those who are loud enough, and the places that are left for all who have it.
        let (louder, least, _) = ranks.select_nth_unstable_by(MOST - 1, |a, b| b.total_cmp(a));
        (*least, MOST - louder.iter().filter(|rank| **rank > *least).count())
    } else {
        (0.0, MOST)
    };
    move |bid| {
        let Some(rank) = bid.rank().filter(|_| bid.wants) else { return bid.wants };
        let last = rank == least && places > 0;
        if last {
            places -= 1;
        }
        rank > least || last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(bids: &[Bid]) -> Vec<usize> {
        let mut given = give(bids, &mut Vec::new());
        bids.iter().enumerate().filter(|(_, bid)| given(bid)).map(|(index, _)| index).collect()
    }
    fn bid(power: f32, had: bool) -> Bid {
        Bid { had, wants: true, power: Some(power) }
    }

    #[test]
    fn all_who_are_not_silent_have_it_while_they_are_few() {
        let bids = [bid(0.1, false), Bid { wants: false, ..bid(0.0, true) }, bid(0.0001, false)];
        assert_eq!(given(&bids), [0, 2]);
    }

    #[test]
    fn the_loudest_have_it_when_they_are_many() {
        let bids: Vec<Bid> = (0..40).map(|index| bid(0.01 + index as f32 * 0.001, false)).collect();
        assert_eq!(given(&bids), Vec::from_iter(24..40));
    }

    #[test]
    fn a_little_louder_is_not_enough_to_take_it() {
        let mut bids = vec![bid(0.01, true); MOST];
        bids.push(bid(0.02, false));
        assert_eq!(given(&bids), Vec::from_iter(0..MOST));
        bids.push(bid(0.05, false));
        let given = given(&bids);
        assert!(given.contains(&(MOST + 1)) && !given.contains(&MOST));
    }

    #[test]
    fn of_equals_no_more_than_there_are_places_have_it() {
        assert_eq!(given(&vec![bid(0.01, false); 3 * MOST]), Vec::from_iter(0..MOST));
        let mut bids = vec![bid(0.01, false); 3 * MOST];
        (bids[40], bids[2]) = (bid(0.02, false), Bid { wants: false, ..bid(0.01, false) });
        let given = given(&bids);
        assert_eq!(given.len(), MOST);
        assert!(given.contains(&40) && !given.contains(&2));
    }

    #[test]
    fn who_does_not_tell_is_heard() {
        let mut bids = vec![bid(1.0, false); MOST + 4];
        bids.extend(vec![Bid { had: false, wants: true, power: None }; 2 * MOST]);
        let given = given(&bids);
        assert!((MOST + 4..3 * MOST + 4).all(|index| given.contains(&index)));
        assert_eq!(given.len(), 3 * MOST);
    }
}
