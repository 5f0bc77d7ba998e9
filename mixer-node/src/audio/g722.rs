//! G.722 at 64 kbit/s (ITU-T G.722): two bands of ADPCM, 16 kHz, a byte for two samples.

/// What the lower band's quantiser compares with (§3.3, table 7).
const LOW_DECISIONS: [i32; 30] = [
    0, 35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940, 1023, 1121,
    1219, 1339, 1458, 1612, 1765, 1980, 2195, 2557, 2919,
];
/// The lower band's values for six bits (table 8).
const LOW_VALUES_6: [i32; 64] = [
    -136, -136, -136, -136, -24808, -21904, -19008, -16704, -14984, -13512, -12280, -11192, -10232, -9360,
    -8576, -7856, -7192, -6576, -6000, -5456, -4944, -4464, -4008, -3576, -3168, -2776, -2400, -2032, -1688,
    -1360, -1040, -728, 24808, 21904, 19008, 16704, 14984, 13512, 12280, 11192, 10232, 9360, 8576, 7856,
    7192, 6576, 6000, 5456, 4944, 4464, 4008, 3576, 3168, 2776, 2400, 2032, 1688, 1360, 1040, 728, 432, 136,
    -432, -136,
];
/// The lower band's values for four bits, by which it adapts.
const LOW_VALUES_4: [i32; 16] =
    [0, -20456, -12896, -8968, -6288, -4240, -2584, -1200, 20456, 12896, 8968, 6288, 4240, 2584, 1200, 0];
/// How the lower band's step grows, by its four-bit code.
const LOW_GROWTH: [i32; 16] =
    [-60, 3042, 1198, 538, 334, 172, 58, -30, 3042, 1198, 538, 334, 172, 58, -30, -60];
/// The same of the upper band, by its two-bit code.
const HIGH_VALUES: [i32; 4] = [-7408, -1616, 7408, 1616];
const HIGH_GROWTH: [i32; 4] = [798, -214, 798, -214];
/// What the upper band's quantiser compares with.
const HIGH_DECISION: i32 = 564;
/// 2048 × 2^(i/32).
const EXPONENTIAL: [i32; 32] = [
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834, 2896,
    2960, 3025, 3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
];
/// Half of the symmetrical filter that parts and joins the bands (table 3).
const QMF: [i32; 12] = [3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11];

fn saturate(value: i32) -> i32 {
    value.clamp(i16::MIN.into(), i16::MAX.into())
}

/// One band's predictor and step, the same in encoder and decoder.
struct Band {
    /// Prediction, and its part from the zeroes.
    s: i32,
    sz: i32,
    /// Newest first.
    r: [i32; 3],
    p: [i32; 3],
    d: [i32; 7],
    /// Coefficients of the poles (1, 2) and zeroes (1 to 6).
    a: [i32; 3],
    b: [i32; 7],
    /// Logarithm of the step, and the step.
    nb: i32,
    det: i32,
}

impl Band {
    fn new(det: i32) -> Self {
        Self { s: 0, sz: 0, r: [0; 3], p: [0; 3], d: [0; 7], a: [0; 3], b: [0; 7], nb: 0, det }
    }

    fn adapt_low(&mut self, code: i32) {
        let code = (code >> 2 & 15) as usize;
        let difference = (self.det * LOW_VALUES_4[code]) >> 15;
        self.grow(LOW_GROWTH[code], 18432, 8);
        self.predict(difference);
    }

    fn adapt_high(&mut self, code: i32) {
        let code = (code & 3) as usize;
        let difference = (self.det * HIGH_VALUES[code]) >> 15;
        self.grow(HIGH_GROWTH[code], 22528, 10);
        self.predict(difference);
    }

    fn grow(&mut self, growth: i32, most: i32, shift: i32) {
        self.nb = (((self.nb * 127) >> 7) + growth).clamp(0, most);
        let mantissa = EXPONENTIAL[(self.nb >> 6 & 31) as usize];
        let shift = shift - (self.nb >> 11);
        self.det = if shift < 0 { mantissa << -shift } else { mantissa >> shift } << 2;
    }

    /// §3.6 and Annex: the predictor takes a quantised difference.
    fn predict(&mut self, d: i32) {
        self.d[0] = d;
        self.r[0] = saturate(self.s + d);
        self.p[0] = saturate(self.sz + d);
        let same = |x: i32, y: i32| (x < 0) == (y < 0);
        let [p0, p1, p2] = self.p;

        let a1 = saturate(self.a[1] << 2);
        let turned = if same(p0, p1) { -a1 } else { a1 }.min(32767);
        let a2 = (if same(p0, p2) { 128 } else { -128 } + (turned >> 7) + ((self.a[2] * 32512) >> 15))
            .clamp(-12288, 12288);
        let bound = saturate(15360 - a2);
        let a1 = saturate(if same(p0, p1) { 192 } else { -192 } + ((self.a[1] * 32640) >> 15))
            .clamp(-bound, bound);
        self.a = [0, a1, a2];

        let step = if d == 0 { 0 } else { 128 };
        for (b, old) in self.b.iter_mut().zip(self.d).skip(1) {
            *b = saturate(if same(old, d) { step } else { -step } + ((*b * 32640) >> 15));
        }
        self.d.copy_within(0..6, 1);
        self.r.copy_within(0..2, 1);
        self.p.copy_within(0..2, 1);

        let pole = |i: usize| (self.a[i] * saturate(2 * self.r[i])) >> 15;
        let sp = saturate(pole(1) + pole(2));
        self.sz = saturate((1..7).map(|i| (self.b[i] * saturate(2 * self.d[i])) >> 15).sum());
        self.s = saturate(sp + self.sz);
    }
}

/// Parts or joins two bands.
#[derive(Default)]
struct Qmf([i32; 24]);

impl Qmf {
    fn push(&mut self, a: i32, b: i32) -> (i32, i32) {
        self.0.copy_within(2.., 0);
        self.0[22] = a;
        self.0[23] = b;
        let (mut first, mut second) = (0, 0);
        for (i, pair) in self.0.chunks_exact(2).enumerate() {
            first += pair[0] * QMF[i];
            second += pair[1] * QMF[11 - i];
        }
        (first, second)
    }
}

/// Samples to bytes.
pub(super) struct G722Encoder {
    low: Band,
    high: Band,
    qmf: Qmf,
}

impl G722Encoder {
    pub(super) fn new() -> Self {
        Self { low: Band::new(32), high: Band::new(8), qmf: Qmf::default() }
    }

    /// Appends the code of two samples of 16 kHz.
    pub(super) fn encode(&mut self, samples: [i16; 2]) -> u8 {
        let (odd, even) = self.qmf.push(samples[0].into(), samples[1].into());
        let (low, high) = ((even + odd) >> 14, (even - odd) >> 14);

        let difference = saturate(low - self.low.s);
        let magnitude = if difference < 0 { -(difference + 1) } else { difference };
        let level =
            (1..30).find(|i| magnitude < (LOW_DECISIONS[*i] * self.low.det) >> 12).unwrap_or(30) as i32;
        // Table 5: the codes of negative differences count down from 63, then from 31; those of the others from 61.
        let low_code = match (difference < 0, level) {
            (true, 1..=2) => 64 - level,
            (true, _) => 34 - level,
            (false, _) => 62 - level,
        };
        self.low.adapt_low(low_code);

        let difference = saturate(high - self.high.s);
        let magnitude = if difference < 0 { -(difference + 1) } else { difference };
        let outer = magnitude >= (HIGH_DECISION * self.high.det) >> 12;
        let high_code = match (difference < 0, outer) {
            (true, true) => 0,
            (true, false) => 1,
            (false, true) => 2,
            (false, false) => 3,
        };
        self.high.adapt_high(high_code);
        (high_code << 6 | low_code) as u8
    }
}

/// Bytes to samples.
pub(super) struct G722Decoder {
    low: Band,
    high: Band,
    qmf: Qmf,
}

impl G722Decoder {
    pub(super) fn new() -> Self {
        Self { low: Band::new(32), high: Band::new(8), qmf: Qmf::default() }
    }

    /// The two samples of 16 kHz of a code.
    pub(super) fn decode(&mut self, code: u8) -> [i16; 2] {
        let (low_code, high_code) = (i32::from(code & 63), i32::from(code >> 6));
        let limit = |value: i32| value.clamp(-16384, 16383);
        let low = limit(self.low.s + ((self.low.det * LOW_VALUES_6[low_code as usize]) >> 15));
        self.low.adapt_low(low_code);
        let high = limit(self.high.s + ((self.high.det * HIGH_VALUES[high_code as usize]) >> 15));
        self.high.adapt_high(high_code);
        let (second, first) = self.qmf.push(low + high, low - high);
        [first, second].map(|value| saturate(value >> 11) as i16)
    }
}

#[cfg(test)]
mod tests {
    use gstreamer as gst;
    use gstreamer::prelude::*;

    use super::*;

    /// A chirp from 100 Hz to 7 kHz, loud and soft, of 16 kHz.
    fn chirp() -> Vec<i16> {
        (0..16_000)
            .map(|i| {
                let t = f64::from(i) / 16_000.0;
                let amplitude = 12_000.0 * (1.0 - 0.9 * (t * 20.0).sin().abs());
                (amplitude * (std::f64::consts::TAU * (100.0 * t + 3450.0 * t * t)).sin()) as i16
            })
            .collect()
    }

    /// Runs bytes through an element of another implementation.
    fn through(element: &str, caps: &str, bytes: Vec<u8>) -> Vec<u8> {
        gst::init().unwrap();
        let launch =
            format!("appsrc name=source format=time caps={caps} ! {element} ! appsink name=sink sync=false");
        let pipeline = gst::parse::launch(&launch).unwrap().downcast::<gst::Pipeline>().unwrap();
        let source = pipeline.by_name("source").unwrap().downcast::<gstreamer_app::AppSrc>().unwrap();
        let sink = pipeline.by_name("sink").unwrap().downcast::<gstreamer_app::AppSink>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let mut buffer = gst::Buffer::from_slice(bytes);
        buffer.get_mut().unwrap().set_pts(gst::ClockTime::ZERO);
        source.push_buffer(buffer).unwrap();
        source.end_of_stream().unwrap();
        let mut out = Vec::new();
        while let Ok(sample) = sink.pull_sample() {
            out.extend_from_slice(&sample.buffer().unwrap().map_readable().unwrap());
        }
        pipeline.set_state(gst::State::Null).unwrap();
        out
    }

    fn encoded(samples: &[i16]) -> Vec<u8> {
        let mut encoder = G722Encoder::new();
        samples.chunks_exact(2).map(|pair| encoder.encode([pair[0], pair[1]])).collect()
    }

    #[test]
    fn what_is_encoded_is_decoded_with_little_noise() {
        let (samples, mut decoder) = (chirp(), G722Decoder::new());
        let decoded: Vec<i16> = encoded(&samples).into_iter().flat_map(|code| decoder.decode(code)).collect();
        // The filters delay by 22 samples.
        let pairs = || samples.iter().zip(&decoded[22..]).map(|(a, b)| (f64::from(*a), f64::from(*b)));
        let noise: f64 = pairs().map(|(a, b)| (a - b).powi(2)).sum();
        let signal: f64 = pairs().map(|(a, _)| a.powi(2)).sum();
        assert!(signal / noise > 100.0, "signal to noise {}", signal / noise);
    }

    #[test]
    fn another_decoder_makes_the_same_of_it() {
        let codes = encoded(&chirp());
        let other = through(
            "avdec_g722 ! audioconvert ! audio/x-raw,format=S16LE",
            "audio/G722,rate=16000,channels=1",
            codes.clone(),
        );
        let mut decoder = G722Decoder::new();
        let own: Vec<u8> =
            codes.into_iter().flat_map(|code| decoder.decode(code)).flat_map(i16::to_le_bytes).collect();
        assert!(other.len() > 30_000, "{}", other.len());
        let differing = own.iter().zip(&other).filter(|(a, b)| a != b).count();
        assert_eq!(differing, 0, "of {}", other.len());
    }

    #[test]
    fn another_encoder_makes_the_same_codes() {
        let samples = chirp();
        let bytes = samples.iter().copied().flat_map(i16::to_le_bytes).collect();
        let caps = "audio/x-raw,format=S16LE,rate=16000,channels=1,layout=interleaved";
        let other = through("avenc_g722", caps, bytes);
        let own = encoded(&samples);
        assert!(other.len() > 7_000, "{}", other.len());
        let differing = own.iter().zip(&other).filter(|(a, b)| a != b).count();
        assert_eq!(differing, 0, "of {}", other.len());
    }

    #[test]
    fn any_code_is_decoded() {
        let mut decoder = G722Decoder::new();
        for i in 0..100_000u32 {
            decoder.decode((i.wrapping_mul(2_654_435_761) >> 24) as u8);
        }
        for extreme in [0x00, 0x04, 0x20, 0x3f, 0x84, 0xa0, 0xff] {
            for _ in 0..1000 {
                decoder.decode(extreme);
            }
        }
    }
}
