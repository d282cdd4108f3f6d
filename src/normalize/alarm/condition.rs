//! Whether the test of an alarm holds, by one sample.

use std::cmp::Ordering;
use std::time::Instant;

use super::Sample;
use super::rise::Rise;
use crate::config::site::{Limit, Test};
use crate::reading::{Quality, Value};

/// The value of a sample, where it says something of now.
///
/// One that is doubtful but fresh does: a number outside of what is plausible may be what the alarm is for. The last usable
/// value of a tag that has turned stale does not.
///
/// # Errors
/// The quality for which it says nothing.
pub(super) fn usable<'a>(sample: &Sample<'a>) -> Result<&'a Value, Quality> {
    let is_stale = sample.quality == Quality::UncertainLastUsable;
    if sample.quality.is_bad() || is_stale {
        return Err(sample.quality);
    }
    sample.value.ok_or(Quality::BadNoCommunication)
}

/// Whether `test` holds; `is_raised`: the alarm is raised, so that its hysteresis counts.
///
/// A test of silence is not told by one sample: it never holds here.
///
/// # Errors
/// The quality for which that is not known: the sample's; `bad:decode` for a value of another kind than the test asks for;
/// `bad:sensor_failure` for a number that is not finite; `bad:no_communication` where the limit is a tag that has no value;
/// `uncertain:initial` where too little has been seen for a rate.
pub(super) fn judge(
    test: &Test,
    rise: Option<&mut Rise>,
    sample: &Sample<'_>,
    is_raised: bool,
    now: Instant,
) -> Result<bool, Quality> {
    let value = usable(sample);
    match test {
        Test::Above { limit, hysteresis } => {
            let (number, limit) = (number(value?)?, of(*limit, sample)?);
            Ok(if is_raised { number > limit - hysteresis } else { number > limit })
        }
        Test::Below { limit, hysteresis } => {
            let (number, limit) = (number(value?)?, of(*limit, sample)?);
            Ok(if is_raised { number < limit + hysteresis } else { number < limit })
        }
        Test::Equals(wanted) => equals(value?, wanted),
        Test::Holds => match value? {
            Value::Bool(holds) => Ok(*holds),
            Value::Int(_)
            | Value::UInt(_)
            | Value::Float(_)
            | Value::Double(_)
            | Value::Text(_)
            | Value::Time(_) => Err(Quality::BadDecode),
        },
        Test::Rate { above, .. } => {
            let rise = rise.ok_or(Quality::BadConfig)?;
            let number = value.and_then(number).inspect_err(|_| rise.forget())?;
            rise.take(number, now).map(|risen| risen > *above).ok_or(Quality::UncertainInitial)
        }
        Test::Silent(_) => Ok(false),
    }
}

fn of(limit: Limit, sample: &Sample<'_>) -> Result<f64, Quality> {
    match limit {
        Limit::Number(number) => Ok(number),
        Limit::Tag => sample.limit.filter(|limit| limit.is_finite()).ok_or(Quality::BadNoCommunication),
    }
}

fn number(value: &Value) -> Result<f64, Quality> {
    let number = value.number().ok_or(Quality::BadDecode)?;
    if number.is_finite() { Ok(number) } else { Err(Quality::BadSensorFailure) }
}

/// Numbers are equal by what they are worth, whatever their types; whole ones exactly.
fn equals(value: &Value, wanted: &Value) -> Result<bool, Quality> {
    if let (Some(value), Some(wanted)) = (whole(value), whole(wanted)) {
        return Ok(value == wanted);
    }
    match (value.number(), wanted.number()) {
        (Some(_), Some(wanted)) => Ok(number(value)?.partial_cmp(&wanted) == Some(Ordering::Equal)),
        (None, None) if std::mem::discriminant(value) == std::mem::discriminant(wanted) => {
            Ok(value.is_same(wanted))
        }
        (Some(_), None) | (None, Some(_)) | (None, None) => Err(Quality::BadDecode),
    }
}

fn whole(value: &Value) -> Option<i128> {
    match value {
        Value::Int(value) => Some(i128::from(*value)),
        Value::UInt(value) => Some(i128::from(*value)),
        Value::Bool(_) | Value::Float(_) | Value::Double(_) | Value::Text(_) | Value::Time(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn above(limit: Limit) -> Test {
        Test::Above { limit, hysteresis: 5.0 }
    }

    fn judged(test: &Test, value: &Value, is_raised: bool) -> Result<bool, Quality> {
        let sample = Sample { value: Some(value), quality: Quality::Good, limit: None };
        judge(test, None, &sample, is_raised, crate::clock::monotonic())
    }

    #[test]
    fn an_alarm_is_raised_beyond_its_limit_and_cleared_at_the_limit_less_its_hysteresis() {
        let test = above(Limit::Number(320.0));
        let at = |number, is_raised| judged(&test, &Value::Double(number), is_raised);
        assert_eq!([320.0, 320.1].map(|number| at(number, false)), [Ok(false), Ok(true)]);
        assert_eq!([315.1, 315.0].map(|number| at(number, true)), [Ok(true), Ok(false)]);
        let test = Test::Below { limit: Limit::Number(10.0), hysteresis: 2.0 };
        let at = |number, is_raised| judged(&test, &Value::Int(number), is_raised);
        assert_eq!([10, 9].map(|number| at(number, false)), [Ok(false), Ok(true)]);
        assert_eq!([11, 12].map(|number| at(number, true)), [Ok(true), Ok(false)]);
    }

    #[test]
    fn without_hysteresis_an_alarm_is_cleared_at_its_limit() {
        let test = Test::Above { limit: Limit::Number(0.1), hysteresis: 0.0 };
        assert_eq!(judged(&test, &Value::Double(0.1), true), Ok(false));
        assert_eq!(judged(&test, &Value::Double(0.1), false), Ok(false));
    }

    #[test]
    fn a_limit_that_is_a_tag_is_the_one_of_the_sample() {
        let value = Value::UInt(7);
        let with = |limit| {
            let sample = Sample { value: Some(&value), quality: Quality::Good, limit };
            judge(&above(Limit::Tag), None, &sample, false, crate::clock::monotonic())
        };
        assert_eq!(with(Some(6.5)), Ok(true));
        assert_eq!(with(Some(7.0)), Ok(false));
        assert_eq!(with(None), Err(Quality::BadNoCommunication));
        assert_eq!(with(Some(f64::NAN)), Err(Quality::BadNoCommunication));
    }

    #[test]
    fn a_value_that_says_nothing_of_now_judges_nothing() {
        let value = Value::Double(400.0);
        let with = |quality, value| {
            let sample = Sample { value, quality, limit: None };
            judge(&above(Limit::Number(320.0)), None, &sample, false, crate::clock::monotonic())
        };
        let last = Quality::BadCommLastValueKnown;
        assert_eq!(with(last, Some(&value)), Err(last));
        assert_eq!(with(Quality::UncertainLastUsable, Some(&value)), Err(Quality::UncertainLastUsable));
        assert_eq!(with(Quality::UncertainEuExceeded, Some(&value)), Ok(true));
        assert_eq!(with(Quality::Good, None), Err(Quality::BadNoCommunication));
        assert_eq!(judged(&above(Limit::Number(1.0)), &Value::Bool(true), false), Err(Quality::BadDecode));
        let endless = Value::Double(f64::INFINITY);
        assert_eq!(judged(&above(Limit::Number(1.0)), &endless, false), Err(Quality::BadSensorFailure));
        assert_eq!(judged(&Test::Holds, &Value::UInt(1), false), Err(Quality::BadDecode));
    }

    #[test]
    fn numbers_are_equal_by_their_worth_and_words_by_their_letters() {
        let is = |wanted, value| judged(&Test::Equals(wanted), &value, false);
        assert_eq!(is(Value::Int(4), Value::UInt(4)), Ok(true));
        assert_eq!(is(Value::Int(4), Value::Double(4.0)), Ok(true));
        assert_eq!(is(Value::Double(4.5), Value::UInt(4)), Ok(false));
        // two that are the same as floats
        assert_eq!(is(Value::UInt(9_007_199_254_740_993), Value::UInt(9_007_199_254_740_992)), Ok(false));
        assert_eq!(is(Value::Text(Arc::from("fault")), Value::Text(Arc::from("fault"))), Ok(true));
        assert_eq!(is(Value::Text(Arc::from("fault")), Value::Text(Arc::from("Fault"))), Ok(false));
        assert_eq!(is(Value::Bool(true), Value::Bool(false)), Ok(false));
        assert_eq!(is(Value::Bool(true), Value::UInt(1)), Err(Quality::BadDecode));
        assert_eq!(is(Value::Text(Arc::from("1")), Value::Bool(true)), Err(Quality::BadDecode));
    }
}
