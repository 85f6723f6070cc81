// SPDX-License-Identifier: GPL-2.0

//! Questions that the kernel may leave unanswered for as long as a buffer hangs.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// Asks in a thread of its own, and waits for an answer as long as there is patience.
pub(super) struct Patient<Q, A> {
    questions: Sender<Q>,
    answers: Receiver<A>,
    patience: Duration,
    /// When the question was put that has no answer yet.
    asked: Option<Instant>,
}

impl<Q: Send + 'static, A: Send + 'static> Patient<Q, A> {
    pub(super) fn new(patience: Duration, mut ask: impl FnMut(Q) -> A + Send + 'static) -> Self {
        let (questions, incoming) = mpsc::channel();
        let (outgoing, answers) = mpsc::channel();
        thread::spawn(move || {
            for question in incoming {
                if outgoing.send(ask(question)).is_err() {
                    break;
                }
            }
        });
        Self {
            questions,
            answers,
            patience,
            asked: None,
        }
    }

    /// The answer, or for how long there was none. That to an earlier question is as good.
    pub(super) fn ask(&mut self, question: Q) -> Result<A, Duration> {
        let asked = *self.asked.get_or_insert_with(|| {
            let _ = self.questions.send(question);
            Instant::now()
        });
        let left = self.patience.saturating_sub(asked.elapsed());
        match self.answers.recv_timeout(left) {
            Ok(answer) => {
                self.asked = None;
                Ok(answer)
            }
            Err(_) => Err(asked.elapsed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_comes_late() {
        let (open, door) = mpsc::channel();
        let patience = Duration::from_millis(50);
        let mut patient = Patient::new(patience, move |number: u32| {
            door.recv().unwrap();
            number + 1
        });
        open.send(()).unwrap();
        let mut sure = Patient::new(Duration::from_secs(60), |number: u32| number + 1);
        assert_eq!(sure.ask(1), Ok(2));
        assert_eq!(patient.ask(1).ok().or_else(|| patient.ask(1).ok()), Some(2));

        assert!(patient.ask(5).is_err_and(|waited| waited >= patience));
        let began = Instant::now();
        assert!(patient.ask(7).is_err_and(|waited| waited >= patience));
        assert!(began.elapsed() < Duration::from_secs(10), "it waits again");
        open.send(()).unwrap();
        // What was asked first.
        let answer = (0..200).find_map(|_| {
            thread::sleep(Duration::from_millis(50));
            patient.ask(7).ok()
        });
        assert_eq!(answer, Some(6));
        open.send(()).unwrap();
        let answer = (0..200).find_map(|_| patient.ask(9).ok());
        assert_eq!(answer, Some(10));
    }
}
