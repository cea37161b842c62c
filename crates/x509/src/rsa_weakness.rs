//! Weaknesses that can be seen in an RSA modulus alone: small factors, the ROCA pattern, close primes.
//!
//! Not here: lists of published keys, such as those of the Debian generator of 2008.

/// How many steps of Fermat's method a modulus must withstand.
const FERMAT_STEPS: usize = 100;

/// Says what is wrong with a modulus (big-endian), if anything is.
pub(crate) fn find(modulus: &[u8]) -> Option<&'static str> {
    if modulus.last().is_none_or(|last| last.is_multiple_of(2)) {
        return Some("its RSA modulus is even");
    }
    let residues = residues_of_primes(modulus);
    if residues.contains(&0) {
        return Some("its RSA modulus has a small prime factor");
    }
    if has_roca_pattern(&residues) {
        return Some("its RSA modulus was made by a flawed generator (ROCA, CVE-2017-15361)");
    }
    has_close_primes(&limbs(modulus)).then_some("its RSA primes are close together: Fermat's method finds them")
}

const PRIMES_COUNT: usize = 132;

/// The odd primes below 752.
const PRIMES: [u32; PRIMES_COUNT] = {
    let mut primes = [0; PRIMES_COUNT];
    let mut count = 0;
    let mut candidate = 3;
    while count < PRIMES_COUNT {
        let mut index = 0;
        while index < count && candidate % primes[index] != 0 {
            index += 1;
        }
        if index == count {
            primes[count] = candidate;
            count += 1;
        }
        candidate += 2;
    }
    primes
};

/// The residue of the number for each of [`PRIMES`]: the number is reduced modulo products of many of them first.
fn residues_of_primes(number: &[u8]) -> [u32; PRIMES_COUNT] {
    let mut residues = [0; PRIMES_COUNT];
    let mut start = 0;
    while start < PRIMES_COUNT {
        let mut product = PRIMES[start];
        let mut end = start + 1;
        while let Some(next) = PRIMES.get(end).and_then(|prime| product.checked_mul(*prime)) {
            product = next;
            end += 1;
        }
        let reduced = residue(number, product);
        for index in start..end {
            residues[index] = reduced % PRIMES[index];
        }
        start = end;
    }
    residues
}

fn residue(number: &[u8], modulus: u32) -> u32 {
    let modulus = u64::from(modulus);
    let (head, words) = number.as_rchunks::<4>();
    let head = head.iter().fold(0, |value, octet| (value << 8) | u64::from(*octet));
    let residue = words
        .iter()
        .fold(head % modulus, |value, word| ((value << 32) | u64::from(u32::from_be_bytes(*word))) % modulus);
    // Smaller than a modulus of 32 bits.
    residue as u32
}

/// The flawed generator's primes are powers of 65537 modulo the primes through 167, and so are their products.
fn has_roca_pattern(residues: &[u32; PRIMES_COUNT]) -> bool {
    PRIMES.iter().zip(residues).take_while(|(prime, _)| **prime <= 167).all(|(prime, residue)| {
        let generator = 65_537 % prime;
        let mut power = 1;
        loop {
            if power == *residue {
                return true;
            }
            power = power * generator % prime;
            if power == 1 {
                return false;
            }
        }
    })
}

/// Fermat's method: a number that is a²−b² for an a just above its square root falls apart into (a−b)(a+b).
fn has_close_primes(number: &[u64]) -> bool {
    let (root, remainder) = square_root(number);
    if is_zero(&remainder) {
        return true;
    }
    // a = root + 1 and b² = a² − n = 2·root + 1 − remainder; one step adds 2a + 1.
    let mut step = root;
    shift_left(&mut step, 1, 1);
    let mut b_squared = step.clone();
    subtract(&mut b_squared, &remainder);
    for _ in 0..FERMAT_STEPS {
        if is_square(&b_squared) {
            return true;
        }
        add_small(&mut step, 2);
        add(&mut b_squared, &step);
    }
    false
}

fn is_square(number: &[u64]) -> bool {
    // A bit for each residue that squares have modulo 64: five in six numbers end here.
    const SQUARES_MODULO_64: u64 = 0x0202_0212_0203_0213;
    if (SQUARES_MODULO_64 >> (number[0] & 63)) & 1 == 0 {
        return false;
    }
    let modulo = |modulus: u64| {
        number.iter().rev().fold(0u64, |value, limb| {
            let high = ((value << 32) | (limb >> 32)) % modulus;
            ((high << 32) | (limb & 0xffff_ffff)) % modulus
        })
    };
    let residue = modulo(63 * 65 * 11 * 17);
    let is_residue = |modulus: u64| (0..modulus).any(|root| root * root % modulus == residue % modulus);
    [63, 65, 11, 17].into_iter().all(is_residue) && is_zero(&square_root(number).1)
}

/// The integer square root and what remains, bit by bit. Little-endian; both have one limb more than half the number.
fn square_root(number: &[u64]) -> (Vec<u64>, Vec<u64>) {
    let limbs = number.len() / 2 + 2;
    let mut root = vec![0; limbs];
    let mut remainder = vec![0; limbs];
    let mut trial = vec![0; limbs];
    let mut bits = 0;
    for limb in number.iter().rev() {
        for pair in (0..32).rev() {
            bits += 1;
            // The root has this many bits now, and what is computed with at most two more.
            let active = (bits + 2) / 64 + 1;
            let (root, remainder, trial) = (&mut root[..active], &mut remainder[..active], &mut trial[..active]);
            shift_left(remainder, 2, (limb >> (2 * pair)) & 3);
            trial.copy_from_slice(root);
            shift_left(trial, 2, 1);
            let fits = remainder.iter().rev().ge(trial.iter().rev());
            if fits {
                subtract(remainder, trial);
            }
            shift_left(root, 1, u64::from(fits));
        }
    }
    (root, remainder)
}

/// Little-endian limbs of a big-endian number.
fn limbs(number: &[u8]) -> Vec<u64> {
    let (head, words) = number.as_rchunks::<8>();
    let mut limbs: Vec<u64> = words.iter().rev().map(|word| u64::from_be_bytes(*word)).collect();
    limbs.push(head.iter().fold(0, |value, octet| (value << 8) | u64::from(*octet)));
    limbs
}

fn shift_left(number: &mut [u64], bits: u32, low: u64) {
    let mut carry = low;
    for limb in number {
        let next = *limb >> (64 - bits);
        *limb = (*limb << bits) | carry;
        carry = next;
    }
}

fn subtract(number: &mut [u64], other: &[u64]) {
    let mut borrow = false;
    for (limb, other) in number.iter_mut().zip(other) {
        let (difference, first) = limb.overflowing_sub(*other);
        let (difference, second) = difference.overflowing_sub(u64::from(borrow));
        *limb = difference;
        borrow = first || second;
    }
}

fn add(number: &mut [u64], other: &[u64]) {
    let mut carry = false;
    for (limb, other) in number.iter_mut().zip(other) {
        let (sum, first) = limb.overflowing_add(*other);
        let (sum, second) = sum.overflowing_add(u64::from(carry));
        *limb = sum;
        carry = first || second;
    }
}

fn add_small(number: &mut [u64], small: u64) {
    let mut carry = small;
    for limb in number {
        let (sum, overflow) = limb.overflowing_add(carry);
        *limb = sum;
        carry = u64::from(overflow);
    }
}

fn is_zero(number: &[u64]) -> bool {
    number.iter().all(|limb| *limb == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn square_roots_and_squares_are_exact() {
        for root in [1u64, 2, 3, 7, 255, 256, 65_537, 0xffff_ffff] {
            for below in 0..2 {
                let number = root * root - below;
                let (found, remainder) = square_root(&[number]);
                assert_eq!(found[0], number.isqrt(), "{number}");
                assert_eq!(remainder[0], number - number.isqrt() * number.isqrt());
                assert_eq!(is_square(&[number]), below == 0 || root == 1, "{number}");
            }
        }
        // (2⁶⁴ + 1)² = 2¹²⁸ + 2·2⁶⁴ + 1.
        let (root, remainder) = square_root(&[1, 2, 1]);
        assert_eq!((&root[..2], is_zero(&root[2..]), is_zero(&remainder)), (&[1, 1][..], true, true));
        assert!(is_square(&[1, 2, 1]) && !is_square(&[2, 2, 1]) && !is_square(&[1, 3, 1]));
    }

    #[test]
    fn residues_are_those_of_the_number() {
        let number = u64::MAX - 58;
        let residues = residues_of_primes(&number.to_be_bytes());
        for (prime, residue) in PRIMES.iter().zip(residues) {
            assert_eq!(u64::from(residue), number % u64::from(*prime));
        }
        assert_eq!((PRIMES[0], PRIMES[PRIMES_COUNT - 1]), (3, 751));
    }
}
