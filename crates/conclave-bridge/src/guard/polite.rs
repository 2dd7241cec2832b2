//! Which texts say nothing: thanks, praise, acknowledgement and offers of help, as models write them.
//!
//! A text counts only if every word of it is of that kind: one word, number, path or line of code that is not
//! makes it content. What is doubtful is content: who is taken for polite is kept waiting. Pure.

/// Longer texts say something, in characters.
const CHARS_MAX: usize = 480;

/// Words of which a polite text has at least one.
const CORE: &str = "thank thanks thankyou thankful thx ty tysm cheers appreciate appreciated appreciates \
    appreciation grateful gratitude welcome pleasure glad happy delighted delight honored honoured likewise \
    congrats congratulations kudos bravo great awesome amazing wonderful fantastic excellent perfect brilliant \
    superb terrific lovely nice cool good fine ok okay kk alright ack acknowledged roger understood noted got \
    sure absolutely definitely certainly indeed bye goodbye farewell hello hi hey greetings regards anytime \
    np yw outstanding marvelous splendid fabulous enjoyed pleased \
    danke dankeschön dank gern gerne bitte bitteschön super toll prima klasse freut freue ebenso gleichfalls \
    ebenfalls merci plaisir parfait génial prie rien gracias nada placer perfecto genial igualmente encantado \
    encantada gusto obrigado obrigada prazer perfeito ótimo valeu grazie prego piacere perfetto ottimo \
    altrettanto figurati niente";

/// Words that say nothing beside those.
const FILLER: &str = "letting sound sounds true feedback honestly everybody guys gladly heartfelt continues \
    valued making eager eagerly excited exciting teaming assisting a about absolute again all always am an and any anything anybody anyone are around arise as at \
    attention back base be been being best better both but by buddy can care catch chat clear clearly \
    collaborate collaborated collaborating collaboration collaborative collaborator colleague come comes \
    comments communication completely continued contribution contributions conversation cooperation \
    could day deeply dedication detail detailed did discussion do does don't dont each echo effective \
    effectively efficient efficiently effort efforts else end enjoy entirely ever every everyone everything \
    exactly exchange expertise extremely feel feeling folks for forward free friend friends from further \
    future gave genuinely give had hand happily happiness has have having hear hearing heard help helped helpful \
    helpfulness helping here hesitate highly hope how i i'd i'll i'm i've if im immensely in incredible incredibly \
    input insight insightful insights interaction is it it's its job joy just keep kind kindly kindness \
    know later let like look looking lot lots luck made make makes many mate may me mean means \
    mention mine moment more morning most much mutual my need needed needs never next night no nothing now of off \
    on once one or other our ours out part partner partnership patience patient please positive pretty problem \
    productive professional professionalism prompt promptly question questions quick quickly quite reach \
    real really rest same say see sentiment sentiments share side sincere sincerely smooth smoothly so some \
    something soon spirit stay success successful such support supporting supportive take talk team \
    teammate teamwork terrifically than that that's thats the their them then there these they they're thing \
    things this those thorough thoroughly thoroughness thoughtful thoughtfulness thoughts time to today together \
    too totally touch trouble truly up us valuable very was wasn't way we we'd we'll we're we've week weekend well \
    were what whenever wherever while will wish wishes wishing with wonderfully word words work worked working \
    works worries would yay yeah yep yes yet you you'd you'll you're you've your youre yours yourself evening \
    afternoon side's warm warmly warmest honor honour appreciative assist assistance assisting \
    vielen herzlichen sehr schön schöne schönen geschehen alles klar kein keine problem gut für deine deiner dein ihre ihrer die der das \
    hilfe zusammenarbeit dir ihnen euch dich sie tag noch einen eine mich auch und es war mir ein eine vergnügen immer wieder jederzeit zurück \
    beaucoup mille de je vous te t'en en avec d'accord bonne journée à toi vous aussi pour votre ton aide c'est un \
    une très bien c'était et moi nous la le les du collaboration continuation \
    muchas muchísimas por tu su ayuda un una con ti que tengas tenga buen buena día y muy bien a usted también fue todo lo el la ha sido \
    muito muita por pela sua tua ajuda um uma e foi tudo bem também você você igualmente dia bom \
    tante di per il tuo suo aiuto è stato un anche a te lei buona giornata molto bene tutto";

/// What makes a question a courtesy.
const OFFERS: [&str; 7] = [
    "anything else",
    "something else",
    "how are you",
    "can i help",
    "may i help",
    "i can help",
    "i can assist",
];

/// Phrases of languages that put no blanks between words, the longest first where one is in another.
const PHRASES: [&str; 58] = [
    "非常感谢",
    "谢谢你们",
    "谢谢你",
    "谢谢您",
    "谢谢",
    "感谢",
    "多谢",
    "不用客气",
    "不客气",
    "别客气",
    "不用谢",
    "没问题",
    "没关系",
    "没事",
    "好的",
    "太好了",
    "太棒了",
    "很高兴",
    "合作愉快",
    "你们",
    "你的",
    "您的",
    "帮助",
    "支持",
    "帮到你",
    "能帮到您",
    "帮到您",
    "为你服务",
    "为您服务",
    "随时",
    "能",
    "也",
    "很",
    "非常",
    "了",
    "都",
    "的",
    "你",
    "您",
    "我",
    "ありがとうございました",
    "ありがとうございます",
    "ありがとう",
    "どういたしまして",
    "お疲れ様でした",
    "お疲れ様です",
    "お疲れさまでした",
    "こちらこそ",
    "助かりました",
    "了解しました",
    "了解です",
    "承知しました",
    "いえいえ",
    "とんでもないです",
    "とんでもない",
    "本当に",
    "どうも",
    "嬉しいです",
];

/// Returns whether a text says nothing but courtesies. `names` are words that only address somebody.
#[must_use]
pub fn is_courtesy(text: &str, names: &[&str]) -> bool {
    let text = text.trim().to_lowercase().replace('’', "'");
    if text.is_empty() || text.chars().count() > CHARS_MAX || has_marks_of_content(&text) {
        return false;
    }
    let offers = OFFERS.iter().any(|offer| text.contains(offer));
    if text.contains(['?', '？']) && !offers {
        return false;
    }
    let (plain, foreign) = without_phrases(text);
    let words = plain.split(|c: char| !c.is_alphanumeric() && c != '\'');
    let words: Vec<&str> = words
        .map(|word| word.trim_matches('\''))
        .filter(|word| !word.is_empty())
        .collect();
    let mut core = offers || foreign || words.is_empty();
    for word in words.into_iter().filter(|word| !names.contains(word)) {
        match (is_in(CORE, word), is_in(FILLER, word)) {
            (true, _) => core = true,
            (false, true) => {}
            (false, false) => return false,
        }
    }
    core
}

/// Returns whether there are numbers, paths, code or addresses.
fn has_marks_of_content(text: &str) -> bool {
    let marks = [
        '`', '/', '\\', '=', '_', '<', '{', '[', '#', '$', '%', '+', '|', '*',
    ];
    let inside = |at: usize| {
        let after = text.get(at + 1..).and_then(|rest| rest.chars().next());
        let before = text.get(..at).and_then(|part| part.chars().next_back());
        [before, after]
            .iter()
            .all(|c| c.is_some_and(char::is_alphanumeric))
    };
    text.contains(marks)
        || text.chars().any(char::is_numeric)
        || text.match_indices(['.', ':']).any(|(at, _)| inside(at))
}

/// Takes the phrases out that have no blanks; says whether there were any.
fn without_phrases(mut text: String) -> (String, bool) {
    let mut found = false;
    for phrase in PHRASES {
        if text.contains(phrase) {
            // A part of a longer thanks alone is none.
            found |= phrase.chars().count() > 1;
            text = text.replace(phrase, " ");
        }
    }
    (text, found)
}

fn is_in(words: &str, word: &str) -> bool {
    words.split_whitespace().any(|known| known == word)
}
