//! Asks what a search wants to know: the one file of it that touches a line.

use std::time::Duration;

use bytes::BytesMut;
use tokio::time::{sleep, timeout_at};

use super::{Question, Survey};
use crate::clock;
use crate::link::{Link, LinkError};

/// A line that has been quiet for so long says no more: longer than adapters hold bytes back.
const QUIET: Duration = Duration::from_millis(60);
/// The least silence before each question, whatever the speed: nobody else is to be crowded out.
const PAUSE: Duration = Duration::from_millis(20);
/// A line that is never quiet is heard no longer than this beyond the time of an answer.
const BABBLE_MAX: Duration = Duration::from_secs(2);
/// More bytes are not kept of what is heard after one question.
const HEARD_MAX: usize = 4096;
/// A far end that hangs up so often, one question after the other, is not asked so any more.
const LOST_MAX: u32 = 2;

/// Asks everything that `survey` wants to know over `link`, each time after a silence of `gap` at least; before each question
/// `told` may look at it.
///
/// # Errors
/// Where the link cannot be opened.
pub async fn run(
    survey: &mut Survey,
    link: &mut Link,
    gap: Option<Duration>,
    mut told: impl FnMut(&Survey, &Question),
) -> Result<(), LinkError> {
    let mut lost = 0;
    let pause = gap.unwrap_or_default().max(PAUSE);
    link.open().await?;
    while let Some(question) = survey.next_question() {
        told(survey, &question);
        if !link.is_open() {
            link.open().await?;
        }
        let mut heard = ask(link, survey, &question, pause).await;
        if heard.is_err() {
            // a server may hang up after each answer, or have done so long ago
            link.open().await?;
            heard = ask(link, survey, &question, pause).await;
        }
        match heard {
            Ok(heard) => {
                lost = 0;
                if !heard.is_empty() {
                    link.answered();
                }
                survey.handle(&heard, clock::monotonic());
            }
            Err(_) if lost < LOST_MAX => {
                lost += 1;
                survey.handle(&[], clock::monotonic());
            }
            Err(_) => {
                lost = 0;
                survey.handle_lost();
            }
        }
    }
    Ok(())
}

/// Sends a question; what comes until it is answered and the line is quiet, or until it is answered no more. What came in before
/// it, as a late answer to the last one, comes first.
async fn ask(
    link: &mut Link,
    survey: &Survey,
    question: &Question,
    pause: Duration,
) -> Result<BytesMut, LinkError> {
    link.set_line(question.manner.line);
    sleep(pause).await;
    if !question.bytes.is_empty() {
        link.write(&question.bytes).await?;
    }
    let end = clock::monotonic() + question.patience;
    let mut until = end;
    let mut heard = BytesMut::new();
    loop {
        match timeout_at(until.into(), link.read(&mut heard)).await {
            Err(_) => return Ok(heard),
            Ok(Ok(_)) if heard.len() < HEARD_MAX => {}
            // whoever hangs up behind an answer has given it
            Ok(Err(error)) if heard.is_empty() => return Err(error),
            Ok(_) => return Ok(heard),
        }
        let quiet = clock::monotonic() + QUIET;
        until = if survey.is_answered(&heard) {
            quiet.min(end + BABBLE_MAX)
        } else if question.bytes.is_empty() {
            end
        } else {
            // what has begun to come at the last moment comes to its end
            quiet.max(end).min(end + BABBLE_MAX)
        };
    }
}
