"""A few sentences in several languages, on which a model shows how sparse it is."""

SAMPLE_TEXTS: dict[str, tuple[str, ...]] = {
    "English": (
        "The bridge across the river was closed for repairs after engineers found cracks in two of its steel beams.",
        "Regular exercise lowers blood pressure, strengthens the heart and helps people to sleep better at night.",
    ),
    "German": (
        "Die Brücke über den Fluss wurde gesperrt, nachdem Ingenieure Risse in zwei Stahlträgern gefunden hatten.",
        "Regelmäßige Bewegung senkt den Blutdruck, stärkt das Herz und lässt Menschen nachts besser schlafen.",
    ),
    "French": (
        "Le pont sur le fleuve a été fermé après la découverte de fissures dans deux de ses poutres en acier.",
        "L'exercice régulier fait baisser la tension, renforce le cœur et aide à mieux dormir la nuit.",
    ),
    "Spanish": (
        "El puente sobre el río se cerró después de que los ingenieros hallaran grietas en dos vigas de acero.",
        "El ejercicio regular baja la presión arterial, fortalece el corazón y ayuda a dormir mejor por la noche.",
    ),
    "Russian": (
        "Мост через реку закрыли на ремонт после того, как инженеры нашли трещины в двух стальных балках.",
        "Регулярные упражнения снижают давление, укрепляют сердце и помогают людям лучше спать по ночам.",
    ),
    "Korean": (
        "기술자들이 강철 들보 두 개에서 균열을 발견한 뒤 강을 건너는 다리가 보수를 위해 폐쇄되었다.",
        "규칙적인 운동은 혈압을 낮추고 심장을 튼튼하게 하며 밤에 더 잘 자도록 도와준다.",
    ),
    "Japanese": (
        "技術者が二本の鋼鉄の梁に亀裂を見つけたため、川に架かる橋は補修のために閉鎖された。",
        "定期的な運動は血圧を下げ、心臓を強くし、夜によく眠れるようにする。",
    ),
    "Chinese": (
        "工程师在两根钢梁上发现裂缝后，这座跨河大桥被关闭进行维修。",
        "经常锻炼可以降低血压，增强心脏功能，并帮助人们晚上睡得更好。",
    ),
}
